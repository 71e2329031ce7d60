/*
 * front.c - the `walagent` on the PATH: libc only, so that it starts in half a millisecond.
 *
 * It serves the hooks where no more is needed than a rename or a question to the agent: a
 * prefetched segment, a look-up that failed a moment ago, a running agent. Everything else is
 * passed on to the full program, walagent-main: beside this binary in a build tree, in
 * ../libexec/walagent, or where it was installed.
 *
 * In point-in-time recovery an exit code from 1 to 125 ends recovery and opens the server: there
 * the full program runs as a child, and whatever becomes of it but 0 and 1 is 254.
 */
#include "walagent/base/file.h"
#include "walagent/base/hook.h"
#include "walagent/base/socket.h"
#include "walagent/base/time.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PUSH_TIMEOUT_MS (10 * 60 * 1000) /* pushing a segment to a slow store */
#define WANT_TIMEOUT_MS 1000             /* for a segment on its way; then the store is slow */
#define RAW_TIMEOUT_MS (10 * 60 * 1000)
#define ANSWER_GRACE_MS 1000 /* beyond the time that the agent itself may take */

typedef struct front {
    char **argv;
    const char *config_path; /* -c; NULL: default */
    const char *operands[2];
    size_t operand_count;
    bool alone; /* --repository: not the agent's */
    bool plain; /* nothing on the command line that only the full program understands */
    char data_dir[PATH_MAX];
    wa_get_mode mode;
} front;

/* Replaces this process by the full program; returns only on failure. */
static void
exec_main(char **argv)
{
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len > 0) {
        self[len] = '\0';
        setenv("WALAGENT_FRONT", self, 1);
        char *slash = strrchr(self, '/');
        if (slash != NULL) {
            *slash = '\0';
            WA_CLEANUP(wa_freep) char *beside = wa_format("%s/walagent-main", self);
            execv(beside, argv);
            WA_CLEANUP(wa_freep)
            char *libexec = wa_format("%s/../libexec/walagent/walagent-main", self);
            execv(libexec, argv);
        }
    }
    execv(WA_MAIN_PATH, argv);
    fprintf(stderr, "walagent: could not start \"%s\": %s\n", WA_MAIN_PATH, strerror(errno));
    fputs("HINT:  Install walagent again: the full program is missing.\n", stderr);
}

/* -c FILE and operands; anything else is for the full program. */
static front
parse(char **argv)
{
    front f = {.argv = argv, .plain = true, .mode = WA_GET_RAW};
    for (size_t i = 2; argv[i] != NULL; i++) {
        const char *arg = argv[i];
        if (strcmp(arg, "-c") == 0 || strcmp(arg, "--config") == 0) {
            f.plain = f.plain && argv[i + 1] != NULL;
            if (argv[i + 1] != NULL)
                f.config_path = argv[++i];
        } else if (strncmp(arg, "--config=", 9) == 0) {
            f.config_path = arg + 9;
        } else if (strcmp(arg, "--repository") == 0 && argv[i + 1] != NULL) {
            f.alone = true;
            i++;
        } else if (arg[0] == '-' || f.operand_count == WA_ARRAY_SIZE(f.operands)) {
            f.plain = false;
        } else {
            f.operands[f.operand_count++] = arg;
        }
    }
    return f;
}

static void
print_error(const wa_error *err)
{
    fprintf(stderr, "walagent: %s\n", err->message);
    if (err->hint[0] != '\0')
        fprintf(stderr, "HINT:  %s\n", err->hint);
}

/* The full program's verdict on archive-get in point-in-time recovery. */
static int
run_main_guarded(char **argv)
{
    pid_t child = fork();
    if (child == 0) {
        exec_main(argv);
        _exit(WA_EXIT_RECOVERY_FAILED);
    }
    int state = 0;
    pid_t ended = -1;
    if (child > 0)
        do
            ended = waitpid(child, &state, 0);
        while (ended < 0 && errno == EINTR);
    if (ended != child || !WIFEXITED(state) || WEXITSTATUS(state) > 1)
        return WA_EXIT_RECOVERY_FAILED;
    return WEXITSTATUS(state);
}

static int
get_by_main(const front *f)
{
    if (f->mode == WA_GET_RECOVERY)
        return run_main_guarded(f->argv);
    exec_main(f->argv);
    return 4; /* not 1, which says "not in the archive" */
}

/* The agent's socket, if the configuration can be read; else the full program says what is wrong.
 */
static char *
agent_socket(const front *f, wa_config **ret_config)
{
    wa_error ignored = WA_ERROR_INIT;
    if (wa_config_load(f->config_path, ret_config, &ignored) != WA_OK)
        return NULL;
    return wa_hook_socket_path(*ret_config);
}

static bool
failed_lately(const front *f, bool say)
{
    char message[WA_ERROR_MESSAGE_SIZE];
    uint64_t left = 0;
    if (f->mode != WA_GET_STANDBY || wa_hook_promoting(f->data_dir, &left) ||
        !wa_hook_failed_lately(f->data_dir, message, sizeof message))
        return false;
    if (say)
        fprintf(stderr, "walagent: a moment ago: %s\n", message);
    return true;
}

/* Is it on its way? Then it is here sooner than we could fetch it ourselves. */
static bool
await_prefetched(const front *f, const char *socket_path)
{
    wa_error ignored = WA_ERROR_INIT;
    WA_CLEANUP(wa_closep) int fd = -1;
    WA_CLEANUP(wa_strv_done) wa_strv message = {0};
    WA_CLEANUP(wa_strv_done) wa_strv answer = {0};
    wa_strv_add(&message, "want");
    wa_strv_add(&message, f->operands[0]);
    return wa_socket_connect(socket_path, 0, &fd, &ignored) == WA_OK &&
           wa_socket_send(fd, &message, &ignored) == WA_OK &&
           wa_socket_receive(fd, NULL, WANT_TIMEOUT_MS, &answer, &ignored) == WA_OK &&
           wa_str_eq(answer.items[0], "ok");
}

/* A leftover of an earlier recovery has nobody who answers for it. */
static bool
take_prefetched(const front *f)
{
    const char *name = f->operands[0];
    WA_CLEANUP(wa_freep) char *path = wa_hook_prefetched_path(f->data_dir, name);
    WA_CLEANUP(wa_freep) char *socket_path = wa_hook_prefetch_socket(f->data_dir);
    WA_CLEANUP(wa_closep) int fd = -1;
    WA_CLEANUP(wa_strv_done) wa_strv message = {0};
    wa_error ignored = WA_ERROR_INIT;
    if (strlen(name) != 24 ||
        (access(path, F_OK) != 0 &&
         (failed_lately(f, false) || !await_prefetched(f, socket_path))) ||
        wa_socket_connect(socket_path, 0, &fd, &ignored) != WA_OK ||
        rename(path, f->operands[1]) != 0)
        return false;
    wa_strv_add(&message, "taken");
    wa_strv_add(&message, name);
    if (wa_socket_send(fd, &message, &ignored) != WA_OK)
        wa_error_clear(&ignored); /* it has fetched; that it isn't told costs nothing */
    return true;
}

static int
agent_time_limit(const front *f, const wa_config *config)
{
    uint64_t ms = RAW_TIMEOUT_MS;
    if (f->mode == WA_GET_STANDBY && !wa_hook_promoting(f->data_dir, &ms))
        ms = wa_config_duration_ms(config, "archive", "get_timeout");
    else if (f->mode == WA_GET_RECOVERY)
        ms = wa_config_duration_ms(config, "archive", "pitr_timeout");
    return ms > INT_MAX - ANSWER_GRACE_MS ? INT_MAX : (int)ms + ANSWER_GRACE_MS;
}

/* The agent writes beside the target, we rename: an agent that answers late must not put a segment
 * where the server expects another one. PostgreSQL removes xlogtemp files at its next start. */
static wa_status
get_by_agent(const front *f, const char *socket_path, const wa_config *config, bool *ret_answered,
             wa_error *err)
{
    WA_CLEANUP(wa_freep)
    char *target = f->operands[1][0] == '/' ? wa_strdup(f->operands[1])
                                            : wa_path_join(f->data_dir, f->operands[1]);
    WA_CLEANUP(wa_freep) char *dir = wa_path_dir(target);
    WA_CLEANUP(wa_freep)
    char *tmp = wa_format("%s/xlogtemp.walagent-front-%d", dir, (int)getpid());
    WA_CLEANUP(wa_strv_done) wa_strv request = {0};
    WA_CLEANUP(wa_strv_done) wa_strv answer = {0};
    wa_strv_add(&request, "archive-get");
    wa_strv_add(&request, wa_get_mode_name(f->mode));
    wa_strv_add(&request, f->data_dir);
    wa_strv_add(&request, f->operands[0]);
    wa_strv_add(&request, tmp);
    wa_status status = wa_hook_call(socket_path, &request, agent_time_limit(f, config),
                                    ret_answered, &answer, err);
    if (status == WA_OK && rename(tmp, target) != 0)
        status = wa_error_errno(err, errno, "could not rename file \"%s\": %m", tmp);
    if (status != WA_OK)
        (void)unlink(tmp);
    return status;
}

static int
end_of_get(const front *f, const wa_error *err, wa_status status)
{
    uint64_t left = 0;
    if (status == WA_NOT_FOUND && f->mode != WA_GET_RAW)
        return 1; /* asked for all the time: no line in the server's log */
    if (status != WA_OK)
        print_error(err);
    if (f->mode != WA_GET_STANDBY || status == WA_OK || status == WA_NOT_FOUND)
        return wa_get_exit_code(f->mode, status);
    wa_hook_remember_failure(f->data_dir, err->message);
    return wa_hook_promoting(f->data_dir, &left) ? WA_EXIT_RECOVERY_FAILED
                                                 : wa_get_exit_code(f->mode, status);
}

/* Operands in the wrong order still tell who asks. Without %p nothing does: then a server that is
 * in point-in-time recovery here must be taken for the one, or a usage error would open it. */
static wa_get_mode
mode_of(const front *f)
{
    const char *dir = f->data_dir[0] == '\0' ? "." : f->data_dir;
    for (size_t i = 0; i < f->operand_count; i++) {
        wa_get_mode mode = wa_get_mode_of(dir, f->operands[i]);
        if (mode != WA_GET_RAW)
            return mode;
    }
    WA_CLEANUP(wa_freep) char *signal = wa_path_join(dir, "recovery.signal");
    bool wrong = !f->plain || f->operand_count != WA_ARRAY_SIZE(f->operands);
    return wrong && wa_path_exists(signal) ? wa_get_mode_of(dir, "RECOVERYXLOG") : WA_GET_RAW;
}

static int
archive_get(front *f)
{
    if (getcwd(f->data_dir, sizeof f->data_dir) == NULL)
        f->data_dir[0] = '\0';
    f->mode = mode_of(f);
    if (!f->plain || f->operand_count != 2 || f->data_dir[0] == '\0')
        return get_by_main(f);
    if (f->mode != WA_GET_RAW && take_prefetched(f))
        return 0;
    if (failed_lately(f, true))
        return 4;
    if (f->alone)
        return get_by_main(f);
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_config_freep) wa_config *config = NULL;
    WA_CLEANUP(wa_freep) char *socket_path = agent_socket(f, &config);
    if (socket_path == NULL)
        return get_by_main(f);
    bool answered = false;
    wa_status status = get_by_agent(f, socket_path, config, &answered, &err);
    /* An agent that has not reached the archive yet, is busy, or ends: the full program keeps
     * trying for as long as point-in-time recovery may wait. */
    bool give_up = f->mode != WA_GET_RECOVERY || status != WA_UNAVAILABLE;
    if (status != WA_OK &&
        (!answered || status == WA_DENIED || status == WA_IO || status == WA_CANCELLED || !give_up))
        return get_by_main(f); /* no agent, or one that may not write here */
    return end_of_get(f, &err, status);
}

/* True: answered, with what the call ends with. */
static bool
push_by(const char *socket_path, const char *path, int *ret_code)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_strv_done) wa_strv request = {0};
    WA_CLEANUP(wa_strv_done) wa_strv answer = {0};
    bool answered = false;
    wa_strv_add(&request, "archive-push");
    wa_strv_add(&request, path);
    wa_status status =
        wa_hook_call(socket_path, &request, PUSH_TIMEOUT_MS, &answered, &answer, &err);
    if (!answered || status == WA_DENIED || status == WA_IO || status == WA_CANCELLED)
        return false;
    if (status != WA_OK)
        print_error(&err);
    else if (answer.count > 0 && answer.items[0][0] != '\0')
        fprintf(stderr, "walagent: WARNING:  %s\n", answer.items[0]);
    *ret_code = wa_exit_code(status);
    return true;
}

/* By the agent; else by the helper that an earlier call left behind; else by the full program. */
static int
archive_push(const front *f)
{
    WA_CLEANUP(wa_config_freep) wa_config *config = NULL;
    WA_CLEANUP(wa_freep) char *agent = NULL;
    WA_CLEANUP(wa_freep) char *helper = NULL;
    char path[PATH_MAX], here[PATH_MAX];
    int code = 0;
    if (f->plain && !f->alone && f->operand_count == 1 && realpath(f->operands[0], path) != NULL)
        agent = agent_socket(f, &config);
    if (agent != NULL) {
        if (push_by(agent, path, &code))
            return code;
        if (getcwd(here, sizeof here) != NULL)
            helper = wa_hook_push_socket(config, here, path);
        if (helper != NULL && push_by(helper, path, &code))
            return code;
    }
    exec_main(f->argv);
    return 1; /* above 125 the archiver would be restarted and nothing counted */
}

int
main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "archive-get") == 0) {
        front f = parse(argv);
        return archive_get(&f);
    }
    if (argc > 2 && strcmp(argv[1], "archive-push") == 0) {
        front f = parse(argv);
        return archive_push(&f);
    }
    exec_main(argv);
    return 126;
}
