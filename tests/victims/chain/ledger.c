/* Memory that changes in steps, with a record of it in a file: whoever restores it from a chain of
 * images must have every page as it was written last, and zeros where it was given back. */
#include "victim.h"

#define NR    4096UL
#define STEPS 4

static unsigned char *area;
static int hidden; /* pages 1000 to 1050 are PROT_NONE */

static void protect(int prot)
{
        CALL(mprotect(area + 1000 * PAGE, 50 * PAGE, prot));
}

static int record(int flags)
{
        return CALL(open(in_folder("record"), flags | O_CLOEXEC, 0600));
}

static unsigned char version_byte(unsigned long page, unsigned long at, unsigned version)
{
        return version ? (unsigned char)(page * 31 + at * 7 + version) | 1 : 0;
}

static void put(unsigned long page, unsigned version)
{
        uint32_t said = version;
        int fd = record(O_WRONLY);

        CHECK(pwrite(fd, &said, 4, (off_t)(page * 4)) == 4);
        close(fd);
        if (!version)
                return;
        for (unsigned long at = 0; at < PAGE; at += 64)
                area[page * PAGE + at] = version_byte(page, at, version);
}

static void verify(void)
{
        static uint32_t said[NR];
        int fd = record(O_RDONLY);

        CHECK(read(fd, said, sizeof(said)) == sizeof(said));
        close(fd);
        protect(PROT_READ);
        for (unsigned long page = 0; page < NR; page++) {
                for (unsigned long at = 0; at < PAGE; at += 64) {
                        unsigned char is = area[page * PAGE + at];

                        if (is != version_byte(page, at, said[page])) {
                                say("page %lu at %lu: %d, not version %u\n", page, at, is,
                                    said[page]);
                                CHECK(!"a page is not what was written last");
                        }
                }
        }
        protect(hidden ? PROT_NONE : PROT_READ | PROT_WRITE);
}

static void give_back(unsigned long from, unsigned long to)
{
        CALL(madvise(area + from * PAGE, (to - from) * PAGE, MADV_DONTNEED));
        for (unsigned long page = from; page < to; page++)
                put(page, 0);
}

static void map_anew(unsigned long from, unsigned long to)
{
        CALL(munmap(area + from * PAGE, (to - from) * PAGE));
        CALL(mmap(area + from * PAGE, (to - from) * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
        for (unsigned long page = from; page < to; page++)
                put(page, 0);
}

static void change(unsigned step)
{
        protect(PROT_READ | PROT_WRITE);
        for (unsigned long page = step; page < NR; page += 37 + step)
                put(page, step + 1);
        if (step == 2) {
                give_back(100, 200);
                hidden = 1;
        }
        if (step == 3) {
                map_anew(300, 400);
                put(310, 99);
                hidden = 0;
        }
}

int main(void)
{
        char step[] = "step1";

        close(record(O_WRONLY | O_CREAT));
        CALL(truncate(in_folder("record"), NR * 4));
        area =
            CALL(mmap(NULL, NR * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        for (unsigned long page = 0; page < NR / 2; page++)
                put(page, 1);
        for (step[4] = '1'; step[4] < '1' + STEPS; step[4]++)
                CALL(mkfifo(in_folder(step), 0666));
        ready();
        for (step[4] = '1'; step[4] < '1' + STEPS; step[4]++) {
                wait_for(step);
                change((unsigned)(step[4] - '0'));
                verify();
                ready();
        }
        wait_for("go");
        verify();
        say("EXIT-SUCCESS\n");
        return 0;
}
