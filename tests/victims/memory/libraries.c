// cflags: -lm -ldl
/* Code and data of the C library and of the program itself work on, lazily bound calls included. */
#include "victim.h"
#include <dlfcn.h>
#include <math.h>

static int data = 42, zeroed[100000];
static const int constant = 17;

int main(void)
{
        volatile double x = 2;

        zeroed[50000] = 5;
        ready_and_wait();
        CHECK(data == 42 && constant == 17 && zeroed[50000] == 5 && zeroed[1] == 0);
        CHECK(sqrt(x) > 1.41 && pow(x, 10) == 1024); /* first calls into libm */
        CHECK(dlsym(RTLD_DEFAULT, "qsort") != NULL);
        CHECK(dlopen("libresolv.so.2", RTLD_NOW) != NULL);
        pass();
}
