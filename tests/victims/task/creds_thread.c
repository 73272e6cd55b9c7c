/* One thread with other credentials than the rest, as file servers have (setfsuid, capset). */
#include "victim.h"
#include <linux/capability.h>
#include <sys/fsuid.h>

static pthread_barrier_t built;

static void *body(UNUSED void *unused)
{
        struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct set[2], now[2];

        CALL(syscall(SYS_capget, &head, set));
        set[0].effective &= ~(1u << CAP_CHOWN);
        CALL(syscall(SYS_capset, &head, set));
        CALL(syscall(SYS_setresuid, -1, 1000, -1));
        pthread_barrier_wait(&built);
        wait_for("go");
        CALL(syscall(SYS_capget, &head, now));
        uid_t r, e, s;
        CALL(getresuid(&r, &e, &s));
        CHECK(e == 1000 && r == 0 && s == 0);
        CHECK(!(now[0].effective & 1u << CAP_CHOWN));
        return NULL;
}

int main(void)
{
        pthread_t thread;

        ZERO(pthread_barrier_init(&built, NULL, 2));
        ZERO(pthread_create(&thread, NULL, body, NULL));
        pthread_barrier_wait(&built);
        ready_and_wait();
        CHECK(geteuid() == 0);
        ZERO(pthread_join(thread, NULL));
        pass();
}
