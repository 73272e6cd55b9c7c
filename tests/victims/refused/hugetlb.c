// refused: huge
/* Memory of the hugetlb pool. */
#include "victim.h"

int main(void)
{
        char *memory = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);

        CHECK(memory != MAP_FAILED);
        ready_and_wait();
        pass();
}
