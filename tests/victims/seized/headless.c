// A process whose main thread has ended while another one waits for the end of standard input.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *body(void *nothing)
{
        char byte;
        int good = read(0, &byte, 1) == 0;

        puts(good ? "whole" : "harmed");
        exit(nothing != NULL);
}

int main(void)
{
        pthread_t thread;

        pthread_create(&thread, NULL, body, NULL);
        puts("ready");
        fflush(stdout);
        pthread_exit(NULL);
}
