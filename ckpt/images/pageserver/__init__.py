"""Pages over a network: CRIU's page server, both ends.

`PageSender` (sender) is what a dump writes its pages into, `serve` (listen) what receives them into
an images directory. Needs neither privileges nor the extension.
"""
