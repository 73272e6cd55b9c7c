// args: published
// dump: --link-remap
// differs: */fd/*/flags -- O_TMPFILE shows only where the file was made with it
#include "linked.c"
