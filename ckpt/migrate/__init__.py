"""A running tree moves to another machine: what `ckpt migrate` and `ckpt serve` say to each other.

Two connections, both begun by the source. Over *control* go the frames of ckpt.migrate.wire; over
*data* go the sets of images, the pages in the protocol of a page server.

    source                               destination
    hello: numbers, CPU, vdso         ->
                                      <- welcome, or failed
    (data) set, pages, files, whole   -> once for each round, while the tree runs
                                      <- (data) kept
    fill: what the tree looks like    ->    puts the round's pages into place (.filling)
                                      <- filled
    the tree is frozen; the last set  ->
    restore                           ->    builds the tree, up to its last step
                                      <- ready, or failed: the source goes on
    go                                ->    lets it run, or can't
                                      <- committed: the source ends; aborted: it goes on
    thanks                            ->

At every moment at most one of the two can run. Before `go` the destination's tasks are held by
ptrace and die with whoever holds them; from just before `go` on the source's would stop, and die,
with whoever holds them.

On each side the control connection is held by a messenger, a process of its own
(ckpt.migrate.messenger), which knows what to do when the one that it works for is killed, so that
the other side is never left without an answer. Only where a connection is lost between `go` and the
answer the source can't know: then its tree stays, stopped, and the user is told.
"""
