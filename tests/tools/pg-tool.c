/*
 * pg-tool.c - the pg layer's conversation with a server as commands, for integration tests.
 *
 *   pg-tool CONNINFO identify
 *   pg-tool CONNINFO recovery [ordinary]
 *   pg-tool CONNINFO history TLI
 *   pg-tool CONNINFO slot-create|slot-read|slot-query|slot-drop SLOT
 *   pg-tool CONNINFO slot-advance SLOT LSN
 *   pg-tool CONNINFO stream SLOT|- LSN TLI DIR SECONDS|0
 *
 * Answers are key=value lines; `stream` writes bytes at their offset into DIR/<segment> and ends
 * after SECONDS (0: never), at the timeline's end, or with an error. A failure prints
 * "error=<status> sqlstate=<code> <message>" and exits 1.
 */
#include "walagent/pg/replication.h"

#include "walagent/base/file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct tool {
    const char *conninfo;
    wa_pg_conn *conn;
    int argc;
    char **argv;
} tool;

static wa_status
open_conn(tool *t, bool replication, wa_error *err)
{
    wa_pg_connect_options o = {.conninfo = t->conninfo,
                               .replication = replication,
                               .options = "-c wal_sender_timeout=10s",
                               .timeout_ms = 5000};
    return wa_pg_connect(&o, &t->conn, err);
}

static wa_status
cmd_identify(tool *t, wa_error *err)
{
    wa_pg_system s;
    char lsn[WA_LSN_TEXT];
    bool known = false;
    WA_TRY(open_conn(t, true, err));
    WA_TRY(wa_pg_check_major(t->conn, &known, err));
    WA_TRY(wa_pg_identify(t->conn, &s, err));
    printf("system_identifier=%" PRIu64 "\ntli=%u\nflush=%s\nsegment_size=%" PRIu64
           "\nmajor=%d\nhost=%s\nknown=%d\n",
           s.system_identifier, s.tli, wa_lsn_format(s.flush, lsn), s.segment_size, s.major,
           wa_pg_host(t->conn), known);
    return WA_OK;
}

static wa_status
cmd_recovery(tool *t, wa_error *err)
{
    bool in = false;
    WA_TRY(open_conn(t, t->argc < 1, err));
    WA_TRY(wa_pg_in_recovery(t->conn, &in, err));
    printf("in_recovery=%d\n", in);
    return WA_OK;
}

static wa_status
cmd_history(tool *t, wa_error *err)
{
    uint64_t tli = 0;
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(1 << 20);
    WA_TRY(wa_parse_u64(t->argv[0], &tli, err));
    WA_TRY(open_conn(t, true, err));
    WA_TRY(wa_pg_timeline_history(t->conn, (wa_tli)tli, &text, err));
    return fwrite(wa_buf_str(&text), 1, text.len, stdout) == text.len
               ? WA_OK
               : wa_error_set(err, WA_IO, "could not write");
}

static void
print_slot(const wa_pg_slot *s)
{
    char lsn[WA_LSN_TEXT];
    printf(
        "exists=%d\nphysical=%d\nactive=%d\nrestart_lsn=%s\nwal_status=%s\nsafe_wal_size=%" PRId64
        "\ninvalidation_reason=%s\n",
        s->exists, s->physical, s->active, wa_lsn_format(s->restart_lsn, lsn), s->wal_status,
        s->safe_wal_size, s->invalidation_reason);
}

static wa_status
cmd_slot_read(tool *t, wa_error *err)
{
    wa_pg_slot s;
    WA_TRY(open_conn(t, true, err));
    WA_TRY(wa_pg_slot_read(t->conn, t->argv[0], &s, err));
    print_slot(&s);
    return WA_OK;
}

static wa_status
cmd_slot_query(tool *t, wa_error *err)
{
    wa_pg_slot s;
    WA_TRY(open_conn(t, false, err));
    WA_TRY(wa_pg_slot_query(t->conn, t->argv[0], &s, err));
    print_slot(&s);
    return WA_OK;
}

static wa_status
cmd_slot_create(tool *t, wa_error *err)
{
    WA_TRY(open_conn(t, true, err));
    return wa_pg_slot_create(t->conn, t->argv[0], err);
}

static wa_status
cmd_slot_drop(tool *t, wa_error *err)
{
    WA_TRY(open_conn(t, true, err));
    return wa_pg_slot_drop(t->conn, t->argv[0], err);
}

static wa_status
cmd_slot_advance(tool *t, wa_error *err)
{
    wa_lsn lsn = 0;
    WA_TRY(wa_lsn_parse(t->argv[1], &lsn, err));
    WA_TRY(open_conn(t, false, err));
    return wa_pg_slot_advance(t->conn, t->argv[0], lsn, err);
}

/* Bytes of one message into their segments' files. */
static wa_status
store_wal(const char *dir, wa_tli tli, uint64_t segment_size, const wa_stream_message *m,
          wa_error *err)
{
    for (size_t done = 0; done < m->len;) {
        wa_lsn at = m->start + done;
        uint64_t offset = at % segment_size;
        size_t n = m->len - done;
        if (n > segment_size - offset)
            n = (size_t)(segment_size - offset);
        char name[WA_SEGMENT_NAME];
        WA_CLEANUP(wa_freep)
        char *path = wa_path_join(
            dir, wa_segment_name(tli, wa_segno_of(at, segment_size), segment_size, name));
        WA_CLEANUP(wa_closep) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0)
            return wa_error_set(err, WA_IO, "could not open file \"%s\"", path);
        WA_TRY(wa_pwrite_all(fd, m->data + done, n, (off_t)offset, path, err));
        done += n;
    }
    return WA_OK;
}

static wa_status
cmd_stream(tool *t, wa_error *err)
{
    wa_lsn at = 0;
    uint64_t tli = 0, seconds = 0;
    wa_pg_system system;
    char lsn[WA_LSN_TEXT];
    const char *slot = strcmp(t->argv[0], "-") == 0 ? NULL : t->argv[0];
    WA_TRY(wa_lsn_parse(t->argv[1], &at, err));
    WA_TRY(wa_parse_u64(t->argv[2], &tli, err));
    WA_TRY(wa_parse_u64(t->argv[4], &seconds, err));
    WA_TRY(open_conn(t, true, err));
    WA_TRY(wa_pg_identify(t->conn, &system, err));
    WA_TRY(wa_pg_stream_start(t->conn, slot, at, (wa_tli)tli, err));
    wa_mono end = wa_mono_now() + seconds * 1000;
    while (seconds == 0 || wa_mono_now() < end) {
        wa_stream_message m;
        WA_TRY(wa_pg_stream_receive(t->conn, 100, NULL, -1, &m, err));
        if (m.kind == WA_MSG_TIMELINE_END) {
            printf("received=%s\n", wa_lsn_format(at, lsn));
            printf("next_tli=%u\nnext_start=%s\n", m.next_tli, wa_lsn_format(m.next_start, lsn));
            return WA_OK;
        }
        if (m.kind == WA_MSG_WAL) {
            WA_TRY(store_wal(t->argv[3], (wa_tli)tli, system.segment_size, &m, err));
            if (m.start != at)
                return wa_error_set(err, WA_CORRUPT, "a hole before %s",
                                    wa_lsn_format(m.start, lsn));
            at = m.start + m.len;
            printf("received=%s\n", wa_lsn_format(at, lsn));
            (void)fflush(stdout);
        }
        if (m.kind != WA_MSG_NONE)
            WA_TRY(wa_pg_stream_status(t->conn, at, at, false, err));
    }
    wa_pg_stream_stop(t->conn, 5000);
    WA_TRY(wa_pg_identify(t->conn, &system, err)); /* the connection is usable again */
    printf("received=%s\nstopped=1\n", wa_lsn_format(at, lsn));
    return WA_OK;
}

static const struct {
    const char *name;
    int args;
    wa_status (*run)(tool *t, wa_error *err);
} commands[] = {
    {"identify", 0, cmd_identify},     {"recovery", 0, cmd_recovery},
    {"history", 1, cmd_history},       {"slot-read", 1, cmd_slot_read},
    {"slot-query", 1, cmd_slot_query}, {"slot-create", 1, cmd_slot_create},
    {"slot-drop", 1, cmd_slot_drop},   {"slot-advance", 2, cmd_slot_advance},
    {"stream", 5, cmd_stream},
};

int
main(int argc, char **argv)
{
    for (size_t i = 0; argc >= 3 && i < WA_ARRAY_SIZE(commands); i++) {
        if (strcmp(argv[2], commands[i].name) != 0 || argc - 3 < commands[i].args)
            continue;
        tool t = {.conninfo = argv[1], .argc = argc - 3, .argv = argv + 3};
        wa_error err = WA_ERROR_INIT;
        wa_status status = commands[i].run(&t, &err);
        if (status != WA_OK)
            printf("error=%s sqlstate=%s %s\n", wa_status_name(status),
                   t.conn != NULL ? wa_pg_sqlstate(t.conn) : "", err.message);
        if (status != WA_OK && err.hint[0] != '\0')
            printf("hint=%s\n", err.hint);
        wa_pg_close(t.conn);
        return status == WA_OK ? 0 : 1;
    }
    (void)fprintf(stderr, "usage: see the beginning of pg-tool.c\n");
    return 2;
}
