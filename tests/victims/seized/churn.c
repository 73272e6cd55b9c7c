// Threads and processes are born and die all the time, some threads by exec. On end of file at
// standard input it says how it went: every thread that was started must have run to its end.
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_int going = 1, started, ended;

static void *child(void *nothing)
{
        (void)nothing;
        atomic_fetch_add(&ended, 1);
        return NULL;
}

static void *breed_threads(void *nothing)
{
        (void)nothing;
        while (going) {
                pthread_t thread;
                int err = pthread_create(&thread, NULL, child, NULL);

                if (err) {
                        printf("pthread_create: %s\n", strerror(err));
                        return (void *)1;
                }
                atomic_fetch_add(&started, 1);
                pthread_join(thread, NULL);
        }
        return NULL;
}

static void *execute(void *nothing)
{
        (void)nothing;
        execl("/bin/true", "true", NULL);
        return NULL;
}

static void *breed_processes(void *nothing)
{
        (void)nothing;
        while (going) {
                int status;
                pid_t pid = fork();

                if (!pid) {
                        pthread_t thread;

                        pthread_create(&thread, NULL, execute, NULL);
                        for (;;)
                                pause();
                }
                if (pid < 0 || waitpid(pid, &status, 0) != pid || status) {
                        printf("child %d: status %x, %s\n", pid, status, strerror(errno));
                        return (void *)1;
                }
        }
        return NULL;
}

int main(void)
{
        void *(*const breeders[])(void *) = {breed_threads, breed_threads, breed_processes};
        pthread_t threads[3];
        int failures = 0;
        char byte;

        for (int i = 0; i < 3; i++)
                pthread_create(&threads[i], NULL, breeders[i], NULL);
        puts("ready");
        fflush(stdout);
        while (read(0, &byte, 1) > 0)
                ;
        going = 0;
        for (int i = 0; i < 3; i++) {
                void *failed;

                pthread_join(threads[i], &failed);
                failures += failed != NULL;
        }
        puts(!failures && started == ended ? "whole" : "harmed");
        return 0;
}
