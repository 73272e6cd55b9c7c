/* Capability sets, bounding and ambient sets, securebits, no_new_privs of a user process. */
#include "victim.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>

static void get(struct __user_cap_data_struct *data)
{
        struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};

        CALL(syscall(SYS_capget, &head, data));
}

int main(void)
{
        struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct set[2] = {0}, now[2];
        int bits = SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP | SECBIT_NOROOT;

        CALL(prctl(PR_CAPBSET_DROP, CAP_SYS_MODULE));
        CALL(prctl(PR_CAPBSET_DROP, CAP_AUDIT_WRITE));
        CALL(prctl(PR_SET_SECUREBITS, bits));
        CALL(setgroups(0, NULL));
        CALL(setresgid(1234, 1234, 1234));
        CALL(setresuid(1234, 1234, 1234));
        set[0].permitted = 1u << CAP_NET_BIND_SERVICE | 1u << CAP_CHOWN | 1u << CAP_KILL;
        set[0].effective = 1u << CAP_CHOWN;
        set[0].inheritable = 1u << CAP_NET_BIND_SERVICE;
        CALL(syscall(SYS_capset, &head, set));
        CALL(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0));
        CALL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
        ready_and_wait();
        get(now);
        CHECK(memcmp(set, now, sizeof(set)) == 0);
        CHECK(prctl(PR_CAPBSET_READ, CAP_SYS_MODULE) == 0);
        CHECK(prctl(PR_CAPBSET_READ, CAP_AUDIT_WRITE) == 0);
        CHECK(prctl(PR_CAPBSET_READ, CAP_CHOWN) == 1);
        CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_BIND_SERVICE, 0, 0) == 1);
        CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0) == 0);
        CHECK(prctl(PR_GET_SECUREBITS) == bits);
        CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
        pass();
}
