"""Lazy restore: the processes that bring pages to a tree that runs already.

- The *holder* (holder.py) has the socket and, above all, the userfaultfds: as long as it lives a
  thread that needs a missing page waits, and never reads zeros.
- The *server* is a clone of it that shares its descriptor table and runs C alone
  (ckpt/_native/src/lazy.h). If it is killed the holder makes another, which knows what it knew.
- `ckpt lazy-pages` (serve.py) gives the holder the pages, and waits.

If the holder alone is killed the server finishes the work. If both are, the kernel gives zeros to
who needs a page: nobody can help that from user space.
"""
