/*
 * wal-tool.c - the streamer as a command, for integration tests.
 *
 *   wal-tool init CONNINFO URL                       accept the server's cluster
 *   wal-tool stream CONNINFO URL SPOOL [KEY=VALUE]   until SIGTERM; one JSON line of status every
 *                                                    200 ms on standard output, events on standard
 *                                                    error
 *   wal-tool get URL BRANCH SEGMENT FILE             a whole segment's bytes
 *   wal-tool tail URL BRANCH SEGMENT FILE            the tail's bytes, padded with zeroes; prints
 *                                                    the valid end
 *   wal-tool lineage URL                             the accepted chain
 *   wal-tool push URL FILE                           as archive_command does
 *   wal-tool seal URL LSN                            end the head's epoch there, as gate does
 *
 * Keys of stream: tail_interval_ms, spool_max, acknowledge_spool, stop_on_damage, jobs, slot.
 * "unconditional+URL" has no conditional PUT (for init, which records it).
 * "fault+URL" answers puts with failures while the file named by WALAGENT_TEST_FAULT exists.
 */
#include "walagent/base/file.h"
#include "walagent/base/str.h"
#include "walagent/codec/json.h"
#include "walagent/pg/replication.h"
#include "walagent/repo/lineage.h"
#include "walagent/repo/tail.h"
#include "walagent/store/drivers.h"
#include "walagent/wal/push.h"
#include "walagent/wal/streamer.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define CLUSTER "main"

static int
fail(const wa_error *err)
{
    fprintf(stderr, "error=%s %s%s%s\n", wa_status_name(err->status), err->message,
            err->hint[0] != '\0' ? " HINT: " : "", err->hint);
    return 1;
}

/* While the flag file exists, every call meets a failure. */
typedef struct fault_watch {
    wa_store *fault; /* NULL: none */
    const char *flag;
    bool on;
} fault_watch;

static wa_status
open_repo(const char *url, fault_watch *watch, wa_repo **ret, wa_error *err)
{
    wa_store *store = NULL;
    bool faulty = wa_str_starts(url, "fault+"), blind = wa_str_starts(url, "unconditional+");
    const char *bare = faulty || blind ? strchr(url, '+') + 1 : url;
    wa_store_options options = {.url = bare, .budget_ms = 2000};
    WA_TRY(wa_store_open(&options, &store, err));
    if (blind) {
        store = wa_store_fault_new(store);
        wa_store_fault_set(store, "put", 1, 1000000000, WA_FAULT_OVERWRITE);
    }
    if (faulty) {
        store = wa_store_fault_new(store);
        watch->fault = store;
        watch->flag = getenv("WALAGENT_TEST_FAULT");
    }
    return wa_repo_of_store(store, CLUSTER, 3, ret, err);
}

static void
look_at_flag(fault_watch *watch)
{
    bool on = watch->fault != NULL && watch->flag != NULL && wa_path_exists(watch->flag);
    if (on == watch->on)
        return;
    watch->on = on;
    wa_store_fault_set(watch->fault, "put", 1, on ? 1000000000 : 0,
                       on ? WA_FAULT_FAIL : WA_FAULT_LOSE_REPLY);
}

static int
init(const char *conninfo, const char *url)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_CLEANUP(wa_pg_closep) wa_pg_conn *conn = NULL;
    fault_watch watch = {0};
    wa_pg_system sys;
    wa_pg_connect_options options = {.conninfo = conninfo, .replication = true};
    bool created = false;
    if (open_repo(url, &watch, &repo, &err) != WA_OK ||
        wa_pg_connect(&options, &conn, &err) != WA_OK || wa_pg_identify(conn, &sys, &err) != WA_OK)
        return fail(&err);
    wa_cluster cluster = {.system_identifier = sys.system_identifier,
                          .major = sys.major,
                          .segment_size = sys.segment_size};
    if (wa_repo_init(repo, &cluster, false, &created, &err) != WA_OK)
        return fail(&err);
    return 0;
}

static void
on_event(void *arg, wa_log_level level, const char *message, const char *hint)
{
    (void)arg;
    fprintf(stderr, "level=%d %s%s%s\n", (int)level, message,
            hint != NULL && hint[0] != '\0' ? " HINT: " : "", hint != NULL ? hint : "");
}

static void
print_status(wa_streamer *s, const wa_repo *repo, const fault_watch *watch)
{
    wa_streamer_status st;
    char branch[WA_BRANCH_TEXT];
    wa_store *store = wa_repo_store((wa_repo *)(uintptr_t)repo);
    wa_streamer_get_status(s, &st);
    printf("{\"state\":\"%s\",\"branch\":\"%s\",\"received\":%" PRIu64 ",\"spooled\":%" PRIu64
           ",\"durable\":%" PRIu64 ",\"server_end\":%" PRIu64 ",\"synchronous\":%s,\"epoch\":%u"
           ",\"lag_ms\":%" PRIu64 ",\"lag_commits\":%" PRIu64 ",\"spool_bytes\":%" PRIu64
           ",\"segments\":%" PRIu64 ",\"chunks\":%" PRIu64 ",\"reconnects\":%" PRIu64
           ",\"damaged\":%" PRIu64 ",\"hole_begin\":%" PRIu64 ",\"hole_end\":%" PRIu64
           ",\"lag_bytes\":%" PRIu64 ",\"lag_limit\":%" PRIu64 ",\"puts\":%" PRIu64
           ",\"gets\":%" PRIu64 ",\"heads\":%" PRIu64 ",\"lists\":%" PRIu64
           ",\"conflicts\":%" PRIu64 ",\"refusing\":%s}\n",
           wa_stream_state_name(st.state), wa_branch_format(&st.branch, branch), st.received,
           st.spooled, st.durable, st.server_end, st.synchronous ? "true" : "false", st.epoch,
           st.lag_ms, st.lag_commits, st.spool_bytes, st.segments_archived, st.chunks_archived,
           st.reconnects, st.damaged, st.hole_begin, st.hole_end, st.lag_bytes, st.lag_limit,
           wa_store_requests(store, "put"), wa_store_requests(store, "get"),
           wa_store_requests(store, "head"), wa_store_requests(store, "list"), st.conflicts,
           watch->on ? "true" : "false");
    fflush(stdout);
}

typedef struct runner {
    wa_streamer *streamer;
    wa_cancel cancel;
    wa_status status;
    wa_error err;
    atomic_bool ended;
} runner;

static void *
run(void *arg)
{
    runner *r = arg;
    r->status = wa_streamer_run(r->streamer, &r->cancel, &r->err);
    r->ended = true;
    return NULL;
}

static wa_status
set_option(wa_streamer_options *o, const char *text, wa_error *err)
{
    const char *value = strchr(text, '=');
    if (value == NULL)
        return wa_error_set(err, WA_INVALID, "not KEY=VALUE: %s", text);
    size_t len = (size_t)(value++ - text);
    uint64_t number = 0;
    if (strncmp(text, "slot", len) == 0) {
        o->slot = value;
        return WA_OK;
    }
    WA_TRY(wa_parse_u64(value, &number, err));
    if (strncmp(text, "tail_interval_ms", len) == 0)
        o->tail_interval_ms = number;
    else if (strncmp(text, "spool_max", len) == 0)
        o->spool_max = number;
    else if (strncmp(text, "acknowledge_spool", len) == 0)
        o->acknowledge_spool = number != 0;
    else if (strncmp(text, "stop_on_damage", len) == 0)
        o->stop_on_damage = number != 0;
    else if (strncmp(text, "jobs", len) == 0)
        o->jobs = (size_t)number;
    else
        return wa_error_set(err, WA_INVALID, "no such key: %s", text);
    return WA_OK;
}

static int
stream(int argc, char **argv)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    fault_watch watch = {0};
    wa_streamer_options options = {.conninfo = argv[0],
                                   .slot = "walagent",
                                   .spool_dir = argv[2],
                                   .spool_max = 1024ULL * 1024 * 1024,
                                   .tail_interval_ms = 1000,
                                   .listener = {.fn = on_event}};
    for (int i = 3; i < argc; i++)
        if (set_option(&options, argv[i], &err) != WA_OK)
            return fail(&err);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    WA_CLEANUP(wa_closep) int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    runner r = {.err = WA_ERROR_INIT};
    pthread_t thread;
    if (open_repo(argv[1], &watch, &repo, &err) != WA_OK ||
        wa_streamer_new(repo, &options, &r.streamer, &err) != WA_OK ||
        wa_cancel_init(&r.cancel, &err) != WA_OK)
        return fail(&err);
    look_at_flag(&watch);
    if (wa_thread_start(&thread, "stream", run, &r, &err) != WA_OK)
        return fail(&err);
    while (!r.ended) {
        struct pollfd fd = {.fd = signal_fd, .events = POLLIN};
        look_at_flag(&watch);
        print_status(r.streamer, repo, &watch);
        if (poll(&fd, 1, 200) > 0) {
            wa_cancel_trigger(&r.cancel);
            break;
        }
    }
    wa_thread_join(thread);
    print_status(r.streamer, repo, &watch);
    wa_streamer_free(r.streamer);
    wa_cancel_done(&r.cancel);
    return r.status == WA_OK ? 0 : fail(&r.err);
}

static int
get(bool tail, char **argv)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    fault_watch watch = {0};
    wa_branch branch;
    wa_tli tli;
    wa_segno segno;
    wa_lsn end = 0;
    if (open_repo(argv[0], &watch, &repo, &err) != WA_OK || wa_repo_load(repo, &err) != WA_OK)
        return fail(&err);
    uint64_t size = wa_repo_cluster(repo)->segment_size;
    if (!wa_branch_parse(argv[1], &branch) || !wa_segment_parse(argv[2], size, &tli, &segno))
        return 2;
    WA_CLEANUP(wa_freep) uint8_t *bytes = wa_calloc(1, size);
    WA_CLEANUP(wa_freep) wa_wal_facts *facts = wa_malloc(sizeof *facts);
    wa_status status = tail ? wa_tail_assemble(repo, &branch, segno, bytes, &end, facts, &err)
                            : wa_wal_get(repo, &branch, segno, NULL, bytes, facts, NULL, &err);
    if (status != WA_OK ||
        wa_file_write(argv[3], bytes, size, 0600, WA_WRITE_REPLACE, &err) != WA_OK)
        return fail(&err);
    printf("end=%" PRIu64 " commits=%" PRIu64 "\n", tail ? end : (segno + 1) * size,
           facts->commits);
    return 0;
}

static int
lineage(const char *url)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    fault_watch watch = {0};
    if (open_repo(url, &watch, &repo, &err) != WA_OK || wa_repo_load(repo, &err) != WA_OK ||
        wa_lineage_load(repo, &l, &err) != WA_OK)
        return fail(&err);
    printf("number=%" PRIu64 " epoch=%u\n", l->number, l->epoch);
    for (size_t i = 0; i < l->count; i++) {
        char text[WA_BRANCH_TEXT];
        printf("%s %" PRIu64 "\n", wa_branch_format(&l->steps[i].branch, text), l->steps[i].begin);
    }
    return 0;
}

static int
push(char **argv)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    fault_watch watch = {0};
    wa_push_result result = {0};
    if (open_repo(argv[0], &watch, &repo, &err) != WA_OK || wa_repo_load(repo, &err) != WA_OK)
        return fail(&err);
    wa_push_options options = {.repo = repo};
    return wa_push_file(&options, argv[1], &result, &err) != WA_OK ? fail(&err) : 0;
}

static int
seal(char **argv)
{
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_repo_freep) wa_repo *repo = NULL;
    WA_CLEANUP(wa_lineage_freep) wa_lineage *l = NULL;
    fault_watch watch = {0};
    uint64_t lsn = 0;
    if (wa_parse_u64(argv[1], &lsn, &err) != WA_OK ||
        open_repo(argv[0], &watch, &repo, &err) != WA_OK || wa_repo_load(repo, &err) != WA_OK ||
        wa_lineage_load(repo, &l, &err) != WA_OK ||
        wa_tail_put_seal(repo, &wa_lineage_head(l)->branch, l->epoch, lsn, &err) != WA_OK)
        return fail(&err);
    return 0;
}

int
main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "init") == 0)
        return init(argv[2], argv[3]);
    if (argc >= 5 && strcmp(argv[1], "stream") == 0)
        return stream(argc - 2, argv + 2);
    if (argc == 6 && strcmp(argv[1], "get") == 0)
        return get(false, argv + 2);
    if (argc == 6 && strcmp(argv[1], "tail") == 0)
        return get(true, argv + 2);
    if (argc == 3 && strcmp(argv[1], "lineage") == 0)
        return lineage(argv[2]);
    if (argc == 4 && strcmp(argv[1], "push") == 0)
        return push(argv + 2);
    if (argc == 4 && strcmp(argv[1], "seal") == 0)
        return seal(argv + 2);
    fprintf(stderr, "usage: wal-tool init|stream|get|tail|lineage|push|seal ...\n");
    return 2;
}
