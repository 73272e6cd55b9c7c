"""What this kernel and our privileges allow: one probe for each feature, with its reason.

A probe does the thing and looks at what comes of it; versions are never compared. It leaves nothing
behind: what would change this process happens in a child that ends at once.
"""
