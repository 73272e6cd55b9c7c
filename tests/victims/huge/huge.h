/* Memory of the pool of huge pages, of 2 MiB each. */
#include "victim.h"

#define HUGE (2UL << 20)
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

UNUSED static char *huge(size_t pages, int flags)
{
        char *memory = mmap(NULL, pages * HUGE, PROT_READ | PROT_WRITE,
                            flags | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB, -1, 0);

        CHECK(memory != MAP_FAILED);
        return memory;
}

/* Is there a page in the page table? */
UNUSED static int present(const char *memory)
{
        int fd = CALL(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
        uint64_t word;

        CHECK(pread(fd, &word, 8, (off_t)((uintptr_t)memory / PAGE * 8)) == 8);
        close(fd);
        return word >> 63;
}
