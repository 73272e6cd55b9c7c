// differs: */fd/*/file -- /proc numbers its inodes whenever they are looked at first
/* Files and folders of /proc that tell of this process, a thread, a child and a zombie of it. */
#include "victim.h"

#include <dirent.h>

static char told[4096];

static const char *text_of(int fd, off_t from)
{
        ssize_t length = CALL(pread(fd, told, sizeof(told) - 1, from));

        told[length] = 0;
        return told;
}

static int opened(int flags, const char *format, int number)
{
        char path[64];

        snprintf(path, sizeof(path), format, number);
        return CALL(open(path, flags));
}

static pid_t until_zombie(pid_t pid)
{
        siginfo_t info;

        CALL(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
        return pid;
}

static volatile uint64_t cell = 1;
static int of_thread;

static void *body(void *both)
{
        of_thread = CALL(open("/proc/thread-self/comm", O_RDWR));
        pthread_barrier_wait(both);
        pthread_barrier_wait(both);
        return NULL;
}

static void wait_below(void)
{
        wait_for("go");
}

static void nothing(void)
{
}

int main(void)
{
        pthread_barrier_t both;
        char expected[64];

        ZERO(pthread_barrier_init(&both, NULL, 2));
        pthread_t thread = started_thread(body, &both);
        pthread_barrier_wait(&both);
        pid_t below = child(wait_below), zombie = until_zombie(child(nothing));
        int stat = CALL(open("/proc/self/stat", O_RDONLY));
        int memory = CALL(open("/proc/self/mem", O_RDWR));
        int limits = CALL(open("/proc/self/limits", O_RDONLY));
        int folder = CALL(open("/proc/self/task", O_RDONLY | O_DIRECTORY));
        int place = CALL(open("/proc/self", O_PATH));
        int of_child = opened(O_RDONLY, "/proc/%d/status", below);
        int of_zombie = opened(O_RDONLY, "/proc/%d/stat", zombie);
        CHECK(CALL(read(limits, told, 10)) == 10);

        ready_and_wait();

        snprintf(expected, sizeof(expected), "%d (", getpid());
        CHECK(!strncmp(text_of(stat, 0), expected, strlen(expected)));
        CHECK(CALL(lseek(limits, 0, SEEK_CUR)) == 10);
        uint64_t value = 0;
        CHECK(CALL(pread(memory, &value, 8, (off_t)(uintptr_t)&cell)) == 8 && value == 1);
        value = 2;
        CHECK(CALL(pwrite(memory, &value, 8, (off_t)(uintptr_t)&cell)) == 8 && cell == 2);
        CHECK(CALL(write(of_thread, "named", 5)) == 5);
        char name[16] = "";
        ZERO(pthread_getname_np(thread, name, sizeof(name)));
        CHECK(!strcmp(name, "named"));
        snprintf(expected, sizeof(expected), "\nPid:\t%d\n", below);
        CHECK(strstr(text_of(of_child, 0), expected));
        snprintf(expected, sizeof(expected), "%d (", zombie);
        CHECK(!strncmp(text_of(of_zombie, 0), expected, strlen(expected)));
        CHECK(strstr(told, ") Z "));
        DIR *threads = fdopendir(folder);
        int count = 0;
        CHECK(threads);
        for (struct dirent *entry; (entry = readdir(threads));)
                count += entry->d_name[0] != '.';
        CHECK(count == 2);
        close(CALL(openat(place, "status", O_RDONLY)));

        pthread_barrier_wait(&both);
        ZERO(pthread_join(thread, NULL));
        join_child(below);
        join_child(zombie);
        pass();
}
