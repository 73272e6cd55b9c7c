"""A bash session in tmux with a job in the background: the server's tree is dumped, its client goes
and comes back."""

from __future__ import annotations

from tests.support.case import Case
from tests.support.tmux import Client, Session


def test_a_session_goes_on(case: Case) -> None:
    """Shell, variables, screen, job and what was typed ahead are there again; the client, which was
    attached before, attaches again and sees them."""
    session = Session(case)
    folder = session.folder
    session.enter("PS1='> '; kept=treasure")
    session.enter('(read -r word < go; echo "job $word" > result) &')
    session.enter("cat > stopped")
    session.until_running("cat")
    session.run("send-keys", "C-z")
    session.until_shown("Stopped")
    session.enter("stty -a | head -1; echo ready-$kept")
    session.until_shown("ready-treasure")
    attached = Client(session)
    attached.until_shown("ready-treasure")
    session.run("detach-client", "-a", "-s", "0")
    attached.close()
    session.type("echo typed-ahead-$((40 + 2))")
    session.until_shown("typed-ahead-$((40 + 2))")
    before = session.screen
    assert "rows 20; columns 60" in before
    for _ in range(2):
        session.until_alone()
        case.dump_and_restore(session.server, [], [], ["*/maps/*"])
        assert session.screen == before
    client = Client(session)
    client.until_shown("ready-treasure")
    client.type("\r")
    session.until_shown("\ntyped-ahead-42")
    client.type('jobs; wait %1; echo "after: $kept $(cat result)"\r')
    session.until_shown("Running")
    with (folder / "go").open("w") as go:
        go.write("done\n")
    session.until_shown("after: treasure job done")
    client.type("fg\r")
    session.until_running("cat")
    client.type("line\r\x04")
    session.until_ended("cat")
    assert (folder / "stopped").read_text() == "line\n"
    client.type("sleep 1000\r")
    session.until_running("sleep")
    client.type("\x03")
    session.until_shown("^C")
    client.type("exit\r")
    client.close()
