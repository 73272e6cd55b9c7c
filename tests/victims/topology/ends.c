/* Every arrangement of the ends of pipes and socket pairs over the descriptor tables of a few
 * tasks.
 *
 *     ends TREE KINDS COPIES [STEP FIRST]
 *
 * TREE: for each task but the root two characters: who clones it (a digit), and how: f a fork, t
 * with the same descriptor table, s as a sibling with the same table. KINDS: p pipes, s stream, d
 * datagram and q seqpacket pairs. For each kind there is one object for each way in which each
 * table can hold 0 to COPIES descriptors of each of its two ends; of those every STEP'th, from
 * FIRST on.
 *
 * Before the dump a word of its own waits in each direction that somebody can read. Afterwards the
 * root has every task try every descriptor: which words come out, what goes in where and comes out
 * where, which ends are at an end, who shares a description. Words travel through shared memory, so
 * that no descriptor but those of the objects is there.
 */
#include "victim.h"
#include <sched.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum { TASKS = 4, MOST = 3, ENDS = 2, OBJECTS = 4096, BASE = 16 };
enum op { READ = 1, WRITE, GET_FLAGS, SET_FLAGS, COUNT, CLOSE, LEAVE };

static struct cell {
        sem_t asked, answered;
        int op, fd;
        long value, result;
} *cells;

static struct object {
        char kind;
        int copies[TASKS][ENDS]; /* by table */
} objects[OBJECTS];

static int nr_objects, nr_tasks = 1, nr_tables = 1, most;
static int creator[TASKS], table[TASKS];
static char how[TASKS];

static int number(int object, int end, int copy)
{
        return BASE + (object * ENDS + end) * most + copy;
}

/* ---- what each task does */

static long count_descriptors(void)
{
        long nr = 0;

        for (int fd = 0; fd <= number(nr_objects, 0, 0); fd++)
                nr += fcntl(fd, F_GETFD) >= 0;
        return nr;
}

static long perform(const struct cell *cell)
{
        long word = 0;
        ssize_t n;

        switch (cell->op) {
        case READ: /* 0 at the end, else the word or the error */
                n = read(cell->fd, &word, sizeof(word));
                return n == sizeof(word) ? word : n < 0 ? -errno : n;
        case WRITE:
                n = write(cell->fd, &cell->value, sizeof(cell->value));
                return n < 0 ? -errno : n;
        case GET_FLAGS:
                return fcntl(cell->fd, F_GETFL);
        case SET_FLAGS:
                return fcntl(cell->fd, F_SETFL, cell->value);
        case CLOSE:
                return close(cell->fd);
        default:
                return count_descriptors();
        }
}

static void start_those_of(int task);

static void serve(int task)
{
        struct cell *cell = cells + task;

        start_those_of(task);
        for (;;) {
                CALL(sem_post(&cell->answered));
                while (sem_wait(&cell->asked))
                        CHECK(errno == EINTR);
                if (cell->op == LEAVE)
                        break;
                cell->result = perform(cell);
        }
        while (waitpid(-1, NULL, 0) > 0)
                ;
        CHECK(errno == ECHILD);
        CALL(sem_post(&cell->answered));
        _exit(0);
}

static void start_those_of(int task)
{
        for (int i = 1; i < nr_tasks; i++)
                if (creator[i] == task) {
                        int flags = how[i] == 'f'   ? SIGCHLD
                                    : how[i] == 't' ? CLONE_FILES | SIGCHLD
                                                    : CLONE_FILES | CLONE_PARENT | SIGCHLD;
                        if (CALL(syscall(SYS_clone, flags, 0, 0, 0, 0)) == 0)
                                serve(i);
                        CALL(sem_wait(&cells[i].answered));
                }
}

/* ---- what the root asks of them */

static long ask(int task, int op, int fd, long value)
{
        struct cell *cell = cells + task;

        cell->op = op;
        cell->fd = fd;
        cell->value = value;
        if (task == 0)
                return perform(cell);
        CALL(sem_post(&cell->asked));
        CALL(sem_wait(&cell->answered));
        return cell->result;
}

/* Calls `visit` for each descriptor of one end, in each task that has it; how many there are. */
static int each(int object, int end, void (*visit)(int object, int end, int task, int fd))
{
        int nr = 0;

        for (int task = 0; task < nr_tasks; task++)
                for (int copy = 0; copy < objects[object].copies[table[task]][end]; copy++, nr++)
                        if (visit)
                                visit(object, end, task, number(object, end, copy));
        return nr;
}

static long word_of(int object, int end)
{
        return 1000003L * (object + 1) + end;
}

static long expect(int object, int end, int task, int fd, int op, long value, long wanted)
{
        long got = ask(task, op, fd, value);

        if (got != wanted) {
                say("object %d (%c, end %d), task %d: op %d gives %ld, not %ld\n", object,
                    objects[object].kind, end, task, op, got, wanted);
                CHECK(!"the same ends");
        }
        return got;
}

static int written_from, written_fd, written_task;

static void read_what_was_written(int object, int end, int task, int fd)
{
        static long sequence;
        long word = word_of(object, end) + (++sequence << 40);

        expect(object, written_from, written_task, written_fd, WRITE, word, sizeof(word));
        expect(object, end, task, fd, READ, 0, word);
}

static void write_to_each(int object, int end, int task, int fd)
{
        written_from = end;
        written_task = task;
        written_fd = fd;
        if (each(object, !end, NULL))
                each(object, !end, read_what_was_written);
        else if (objects[object].kind != 'd')
                expect(object, end, task, fd, WRITE, 1, -EPIPE);
        else if (ask(task, WRITE, fd, 1) != -ECONNREFUSED) /* only the first is told that */
                expect(object, end, task, fd, WRITE, 1, -ENOTCONN);
}

static void has_flag(int object, int end, int task, int fd)
{
        long flags = ask(task, GET_FLAGS, fd, 0);

        if (flags < 0 || !(flags & O_NONBLOCK) != !written_from)
                expect(object, end, task, fd, GET_FLAGS, 0, written_from);
}

/* One copy's O_NONBLOCK is that of every copy of the same end, and of no copy of the other. */
static void same_description(int object, int end, int task, int fd)
{
        written_from = 0;
        expect(object, end, task, fd, SET_FLAGS, O_RDWR, 0);
        each(object, end, has_flag);
        written_from = O_NONBLOCK;
        each(object, !end, has_flag);
        expect(object, end, task, fd, SET_FLAGS, O_RDWR | O_NONBLOCK, 0);
        each(object, end, has_flag);
}

static int first_of_end;

static void drain(int object, int end, int task, int fd)
{
        int live = each(object, !end, NULL) || objects[object].kind == 'd';

        if (first_of_end++ == 0)
                expect(object, end, task, fd, READ, 0, word_of(object, end));
        expect(object, end, task, fd, READ, 0, live ? -EAGAIN : 0);
}

static int reads(int object, int end)
{
        return objects[object].kind != 'p' || end == 0;
}

static int writes(int object, int end)
{
        return objects[object].kind != 'p' || end == 1;
}

static void try_all(void)
{
        for (int object = 0; object < nr_objects; object++) {
                for (int end = 0; end < ENDS; end++) {
                        first_of_end = 0;
                        if (reads(object, end))
                                each(object, end, drain);
                }
                for (int end = 0; end < ENDS; end++) {
                        if (writes(object, end))
                                each(object, end, write_to_each);
                        each(object, end, same_description);
                }
        }
}

/* No task has a descriptor more. */
static void count_all(void)
{
        for (int task = 0; task < nr_tasks; task++) {
                long wanted = 3;

                for (int object = 0; object < nr_objects; object++)
                        for (int end = 0; end < ENDS; end++)
                                wanted += objects[object].copies[table[task]][end];
                expect(-1, 0, task, 0, COUNT, 0, wanted);
        }
}

/* ---- how it is built */

static void arrange(const char *kinds, int step, int first)
{
        int places = nr_tables * ENDS, all = 1, taken = 0;

        for (int i = 0; i < places; i++)
                all *= most + 1;
        for (const char *kind = kinds; *kind; kind++)
                for (int arrangement = 1; arrangement < all; arrangement++) {
                        struct object *object = objects + nr_objects;
                        int rest = arrangement;

                        if (taken++ % step != first)
                                continue;
                        CHECK(nr_objects++ < OBJECTS);
                        object->kind = *kind;
                        for (int i = 0; i < places; i++, rest /= most + 1)
                                object->copies[i / ENDS][i % ENDS] = rest % (most + 1);
                }
}

static void make(int index)
{
        const struct object *object = objects + index;
        int fds[ENDS];

        if (object->kind == 'p')
                CALL(pipe2(fds, O_NONBLOCK));
        else
                CALL(socketpair(AF_UNIX,
                                SOCK_NONBLOCK | (object->kind == 's'   ? SOCK_STREAM
                                                 : object->kind == 'd' ? SOCK_DGRAM
                                                                       : SOCK_SEQPACKET),
                                0, fds));
        for (int end = 0; end < ENDS; end++) {
                long word = word_of(index, !end);

                if (each(index, !end, NULL) && writes(index, end))
                        CHECK(write(fds[end], &word, sizeof(word)) == sizeof(word));
                for (int copy = 0; copy < most; copy++)
                        CALL(dup2(fds[end], number(index, end, copy)));
        }
        close(fds[0]);
        close(fds[1]);
}

static void close_the_others(int task)
{
        for (int object = 0; object < nr_objects; object++)
                for (int end = 0; end < ENDS; end++)
                        for (int copy = objects[object].copies[table[task]][end]; copy < most;
                             copy++)
                                CHECK(ask(task, CLOSE, number(object, end, copy), 0) == 0);
}

static void read_tree(const char *tree)
{
        for (; *tree; tree += 2, nr_tasks++) {
                CHECK(nr_tasks < TASKS);
                creator[nr_tasks] = tree[0] - '0';
                how[nr_tasks] = tree[1];
                table[nr_tasks] = tree[1] == 'f' ? nr_tables++ : table[creator[nr_tasks]];
        }
}

int main(int argc, char **argv)
{
        struct rlimit limit;

        CHECK(argc == 4 || argc == 6);
        signal(SIGPIPE, SIG_IGN);
        CALL(close_range(3, ~0U, 0));
        cells = mmap(NULL, TASKS * sizeof(*cells), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(cells != MAP_FAILED);
        for (int i = 0; i < TASKS; i++) {
                CALL(sem_init(&cells[i].asked, 1, 0));
                CALL(sem_init(&cells[i].answered, 1, 0));
        }
        read_tree(argv[1]);
        most = atoi(argv[3]);
        CHECK(most <= MOST);
        arrange(argv[2], argc == 6 ? atoi(argv[4]) : 1, argc == 6 ? atoi(argv[5]) : 0);
        CALL(getrlimit(RLIMIT_NOFILE, &limit));
        limit.rlim_cur = limit.rlim_max;
        CALL(setrlimit(RLIMIT_NOFILE, &limit));
        for (int i = 0; i < nr_objects; i++)
                make(i);
        start_those_of(0);
        for (int task = 0; task < nr_tasks; task++)
                if (task == 0 || how[task] == 'f')
                        close_the_others(task);
        ready_and_wait();
        count_all();
        try_all();
        say("%d objects, %d tasks, %d tables\n", nr_objects, nr_tasks, nr_tables);
        for (int task = nr_tasks - 1; task > 0; task--)
                ask(task, LEAVE, 0, 0);
        while (waitpid(-1, NULL, 0) > 0)
                ;
        pass();
}
