// args: file
// args: sparse
// args: shared
// args: private
// args: directory
// args: fifo
// args: executable
/* Something that has lost its name, in every way that a program can hold it. */
#include "nameless.h"

#define FAR (1L << 30)

/* One inode behind two descriptions here, and one in a child that keeps them both. */
static void same_inode(int other)
{
        char text[8];

        CHECK(pwrite(fd, "changed!", 8, 64) == 8);
        CHECK(pread(other, text, 8, 64) == 8 && memcmp(text, "changed!", 8) == 0);
}

static int other = -1;

static void child_body(void)
{
        wait_for("go");
        check_as_before();
        CHECK(lseek(fd, 0, SEEK_CUR) == 100);
        CHECK(lseek(other, 0, SEEK_CUR) == 0);
}

static void file(void)
{
        fd = made_file("gone", 3 * PAGE + 5, 1);
        CALL(fchmod(fd, 04751));
        other = CALL(open(in_folder("gone"), O_RDONLY | O_NONBLOCK));
        int append = CALL(open(in_folder("gone"), O_WRONLY | O_APPEND));
        CALL(unlink(in_folder("gone")));
        CALL(lseek(fd, 100, SEEK_SET));
        remember();
        pid_t pid = child(child_body);
        until_blocked(pid);
        ready_and_wait();
        char text[3 * PAGE + 5];
        CHECK(pread(fd, text, sizeof(text), 0) == (ssize_t)sizeof(text));
        CHECK(filled(text, 3 * PAGE, 1));
        join_child(pid);
        check_as_before();
        CHECK((fcntl(append, F_GETFL) & (O_ACCMODE | O_APPEND)) == (O_WRONLY | O_APPEND));
        same_inode(other);
}

static void sparse(void)
{
        struct stat now;

        fd = made_file("gone", PAGE, 1);
        CHECK(pwrite(fd, "end", 3, FAR) == 3);
        CALL(unlink(in_folder("gone")));
        remember();
        ready_and_wait();
        check_as_before();
        CALL(fstat(fd, &now));
        CHECK(now.st_blocks <= before.st_blocks);
        char text[PAGE];
        CHECK(pread(fd, text, PAGE, 0) == PAGE && filled(text, PAGE, 1));
        CHECK(pread(fd, text, PAGE, FAR) == 3 && memcmp(text, "end", 3) == 0);
        CHECK(lseek(fd, PAGE, SEEK_DATA) >= FAR - 64 * (long)PAGE);
}

static void mapping(int flags)
{
        fd = made_file("gone", 4 * PAGE, 1);
        char *memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
        CHECK(memory != MAP_FAILED);
        char *second = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 2 * PAGE);
        CHECK(second != MAP_FAILED);
        CALL(unlink(in_folder("gone")));
        close(fd);
        memory[PAGE] = 'm';
        ready_and_wait();
        CHECK(filled(memory, PAGE, 1) && memory[PAGE] == 'm');
        CHECK(memcmp(second, memory + 2 * PAGE, PAGE) == 0);
        memory[2 * PAGE] = 'x';
        CHECK((second[0] == 'x') == (flags == MAP_SHARED));
}

static void directory(void)
{
        CALL(mkdir(in_folder("gone"), 0710));
        CALL(chdir(in_folder("gone")));
        fd = CALL(open(".", O_RDONLY | O_DIRECTORY));
        CALL(rmdir(in_folder("gone")));
        CALL(fstat(fd, &before));
        ready_and_wait();
        struct stat now, here;
        CALL(fstat(fd, &now));
        CALL(stat(".", &here));
        CHECK(now.st_ino == here.st_ino && now.st_dev == here.st_dev);
        CHECK(now.st_mode == before.st_mode && now.st_nlink == before.st_nlink);
        CHECK(open("file", O_CREAT | O_RDWR, 0600) < 0 && errno == ENOENT);
        CHECK(access(in_folder("gone"), F_OK) < 0 && errno == ENOENT);
}

static void fifo(void)
{
        char text[8];

        CALL(mkfifo(in_folder("gone"), 0640));
        fd = CALL(open(in_folder("gone"), O_RDWR));
        int reader = CALL(open(in_folder("gone"), O_RDONLY));
        CALL(unlink(in_folder("gone")));
        CHECK(write(fd, "queued", 6) == 6);
        remember();
        ready_and_wait();
        check_as_before();
        CHECK(read(reader, text, 6) == 6 && memcmp(text, "queued", 6) == 0);
}

static void executable(int argc)
{
        if (argc == 2) {
                int from = CALL(open("/proc/self/exe", O_RDONLY));
                int to = CALL(open(in_folder("program"), O_WRONLY | O_CREAT, 0755));
                char block[65536];
                for (ssize_t got; (got = CALL(read(from, block, sizeof(block)))) > 0;)
                        CHECK(write(to, block, got) == got);
                close(to);
                close(from);
                CALL(execl(in_folder("program"), "program", "executable", "copied", NULL));
        }
        char wanted[512], link[512] = "";
        snprintf(wanted, sizeof(wanted), "%s (deleted)", in_folder("program"));
        CALL(unlink(in_folder("program")));
        ready_and_wait();
        CALL(readlink("/proc/self/exe", link, sizeof(link) - 1));
        CHECK(strcmp(link, wanted) == 0);
}

int main(int argc, char **argv)
{
        switch (argv[1][0] * 256 + argv[1][1]) {
        case 'f' * 256 + 'i':
                argv[1][2] == 'l' ? file() : fifo();
                break;
        case 's' * 256 + 'p':
                sparse();
                break;
        case 's' * 256 + 'h':
                mapping(MAP_SHARED);
                break;
        case 'p' * 256 + 'r':
                mapping(MAP_PRIVATE);
                break;
        case 'd' * 256 + 'i':
                directory();
                break;
        case 'e' * 256 + 'x':
                executable(argc);
                break;
        default:
                fail(__FILE__, __LINE__, "no such case");
        }
        pass();
}
