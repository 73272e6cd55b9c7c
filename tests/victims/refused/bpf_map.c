// needs: cap_sys_admin
// refused: bpf
/* A BPF map. */
#include "victim.h"
#include <linux/bpf.h>

int main(void)
{
        union bpf_attr attr = {
            .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = 4};

        CALL(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof(attr)));
        ready_and_wait();
        pass();
}
