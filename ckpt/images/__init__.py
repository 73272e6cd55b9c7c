"""The image format: which files a set has, and how they are written and read safely.

    types       names, magics, message classes
    payload     raw bytes behind messages
    text        names that are not UTF-8
    framing     bytes to messages and back (pure)
    pagemap     runs of pages and their places (pure)
    checksums   XXH3-64 sums, made and verified beside the transfer
    directory   files by descriptor
    writer      ImageSetWriter: a set whole or not there
    reader      ImageSet: a set read with suspicion
    chain       sets that build on one another
    summary     what a set holds, for people

Works without privileges and without the extension. ckpt-images(5) describes the files.
"""
