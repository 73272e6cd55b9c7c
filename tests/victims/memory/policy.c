/* NUMA policies of threads and of mappings, their own and inherited ones. Node 0 is everywhere. */
#include "victim.h"
#include <linux/mempolicy.h>

enum { MAXNODE = 449 };

struct policy {
        int mode;
        unsigned long nodes[8];
};

static const int modes[] = {MPOL_PREFERRED,
                            MPOL_BIND,
                            MPOL_INTERLEAVE,
                            MPOL_LOCAL,
                            MPOL_BIND | MPOL_F_STATIC_NODES,
                            MPOL_INTERLEAVE | MPOL_F_RELATIVE_NODES};
enum { NR_MODES = sizeof(modes) / sizeof(modes[0]) };

static char *area, *shared, *text;
static pthread_barrier_t built;

static struct policy told(void *address, int flags)
{
        struct policy p;

        memset(&p, 0, sizeof(p));
        CALL(syscall(SYS_get_mempolicy, &p.mode, p.nodes, MAXNODE, address, flags));
        return p;
}

static void expect(void *address, int mode)
{
        struct policy p = told(address, address ? MPOL_F_ADDR : 0);
        int without = mode == MPOL_DEFAULT || mode == MPOL_LOCAL;

        if (p.mode != mode || p.nodes[0] != !without) {
                say("%p: mode %x, nodes %lx\n", address, p.mode, p.nodes[0]);
                CHECK(!"the policy that it had");
        }
}

static void want(void *address, size_t bytes, int mode)
{
        unsigned long first = 1;
        unsigned long *nodes = mode == MPOL_DEFAULT || mode == MPOL_LOCAL ? NULL : &first;

        if (address)
                CALL(syscall(SYS_mbind, address, bytes, mode, nodes, nodes ? 64 : 0, 0));
        else
                CALL(syscall(SYS_set_mempolicy, mode, nodes, nodes ? 64 : 0));
}

/* Mappings in a row that differ in nothing but their policies, every second one without. */
static void expect_area(void)
{
        for (int i = 0; i < NR_MODES; i++) {
                expect(area + 2 * i * PAGE, modes[i]);
                expect(area + (2 * i + 1) * PAGE, MPOL_DEFAULT);
        }
        CHECK(filled(area, 2 * NR_MODES * PAGE, 7));
        expect(shared, MPOL_BIND);
        expect(shared + PAGE, MPOL_DEFAULT);
        expect(text, MPOL_PREFERRED);
}

static void *body(void *mode)
{
        want(NULL, 0, *(int *)mode);
        pthread_barrier_wait(&built);
        wait_for("go");
        expect(NULL, *(int *)mode);
        return NULL;
}

/* A child has what its parent had, but for what it took away or added. */
static void younger(void)
{
        want(NULL, 0, MPOL_DEFAULT);
        want(area, PAGE, MPOL_DEFAULT);
        want(area + PAGE, PAGE, MPOL_BIND);
        ready_and_wait();
        expect(NULL, MPOL_DEFAULT);
        expect(area, MPOL_DEFAULT);
        expect(area + PAGE, MPOL_BIND);
        expect(area + 2 * PAGE, modes[1]);
        CHECK(filled(area, 2 * NR_MODES * PAGE, 7));
}

int main(void)
{
        int own[] = {MPOL_BIND, MPOL_LOCAL, MPOL_DEFAULT};
        pthread_t threads[3];

        area = anonymous(2 * NR_MODES * PAGE);
        fill(area, 2 * NR_MODES * PAGE, 7);
        for (int i = 0; i < NR_MODES; i++)
                want(area + 2 * i * PAGE, PAGE, modes[i]);
        shared = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(shared != MAP_FAILED);
        want(shared, PAGE, MPOL_BIND);
        text = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, made_file("text", PAGE, 1), 0);
        CHECK(text != MAP_FAILED);
        want(text, PAGE, MPOL_PREFERRED);
        want(NULL, 0, MPOL_INTERLEAVE);
        ZERO(pthread_barrier_init(&built, NULL, 4));
        for (int i = 0; i < 3; i++)
                ZERO(pthread_create(&threads[i], NULL, body, &own[i]));
        pthread_barrier_wait(&built);
        pid_t pid = child(younger);
        wait_for("go");
        expect(NULL, MPOL_INTERLEAVE);
        expect_area();
        for (int i = 0; i < 3; i++)
                ZERO(pthread_join(threads[i], NULL));
        join_child(pid);
        pass();
}
