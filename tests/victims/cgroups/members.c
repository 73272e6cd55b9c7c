/* A task, its second thread and its child: each must be in the groups that the test wrote into the
 * file `expect-*` of the folder, a line of /proc/PID/cgroup each. */
#include "victim.h"

static void in_groups(const char *expected, const char *own)
{
        static __thread char text[8192], line[512];
        FILE *file;
        size_t got;

        CHECK(file = fopen(own, "re"));
        text[0] = '\n';
        got = fread(text + 1, 1, sizeof(text) - 2, file);
        text[got + 1] = 0;
        fclose(file);
        CHECK(file = fopen(in_folder(expected), "re"));
        for (got = 0; fgets(line + 1, sizeof(line) - 1, file); got++) {
                line[0] = '\n'; /* whole lines only */
                if (!strstr(text, line))
                        say("not in%sbut in%s\n", line, text);
                CHECK(strstr(text, line));
        }
        fclose(file);
        CHECK(got);
}

static void *body(void *argument)
{
        wait_for("go");
        in_groups("expect-thread", "/proc/thread-self/cgroup");
        return argument;
}

static int told[2];

static void below(void)
{
        tell(told[1]);
        close(told[0]);
        close(told[1]);
        wait_for("go");
        in_groups("expect-child", "/proc/self/cgroup");
}

int main(void)
{
        pthread_t thread;
        pid_t pid;
        void *result;

        CALL(pipe(told));
        pid = child(below);
        hear(told[0]);
        close(told[1]);
        hear_end(told[0]);
        close(told[0]);
        thread = started_thread(body, told);
        ready_and_wait();
        in_groups("expect-root", "/proc/self/cgroup");
        ZERO(pthread_join(thread, &result));
        CHECK(result == told);
        join_child(pid);
        pass();
}
