/*
 * pg-tool.c - the pg layer's conversation with a server as commands, for integration tests.
 *
 *   pg-tool CONNINFO identify
 *   pg-tool CONNINFO recovery [ordinary]
 *   pg-tool CONNINFO history TLI
 *   pg-tool CONNINFO slot-create|slot-read|slot-query|slot-drop SLOT
 *   pg-tool CONNINFO slot-advance SLOT LSN
 *   pg-tool CONNINFO stream SLOT|- LSN TLI DIR SECONDS|0
 *   pg-tool CONNINFO basebackup DIR [PARENT-MANIFEST]
 * and with "-" for CONNINFO:
 *   pg-tool - control PGDATA
 *   pg-tool - label FILE
 *   pg-tool - manifest FILE                 path TAB size TAB algorithm TAB checksum, then the
 * facts pg-tool - manifest-rewrite FILE OUT     what our writer makes of it pg-tool - settings
 * PGDATA NAME VALUE ...
 *
 * Answers are key=value lines; `stream` writes bytes at their offset into DIR/<segment> and ends
 * after SECONDS (0: never), at the timeline's end, or with an error. A failure prints
 * "error=<status> sqlstate=<code> <message>" and exits 1.
 */
#include "walagent/base/file.h"
#include "walagent/pg/basebackup.h"
#include "walagent/pg/control.h"
#include "walagent/pg/manifest.h"
#include "walagent/pg/recovery.h"
#include "walagent/pg/replication.h"

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

static wa_status
store_backup(wa_basebackup *bb, const char *dir, wa_error *err)
{
    WA_CLEANUP(wa_closep) int fd = -1;
    uint64_t progress = 0;
    for (;;) {
        wa_bb_event e;
        WA_TRY(wa_bb_next(bb, &e, err));
        if (e.kind == WA_BB_PROGRESS)
            progress = e.bytes_done;
        if (e.kind == WA_BB_ARCHIVE || e.kind == WA_BB_MANIFEST) {
            const char *name = e.kind == WA_BB_ARCHIVE ? e.archive : "backup_manifest";
            WA_CLEANUP(wa_freep) char *path = wa_path_join(dir, name);
            wa_closep(&fd);
            fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
            if (fd < 0)
                return wa_error_set(err, WA_IO, "could not create file \"%s\"", path);
            printf("archive=%s location=%s\n", name, e.location != NULL ? e.location : "");
        }
        if (e.kind == WA_BB_DATA)
            WA_TRY(wa_write_all(fd, e.data, e.len, dir, err));
        if (e.kind == WA_BB_END) {
            printf("progress=%" PRIu64 "\n", progress);
            return WA_OK;
        }
    }
}

static wa_status
cmd_basebackup(tool *t, wa_error *err)
{
    wa_bb_options o = {.label = "pg-tool's",
                       .fast_checkpoint = true,
                       .manifest_checksums = "CRC32C",
                       .incremental_manifest = t->argc > 1 ? t->argv[1] : NULL};
    char lsn[WA_LSN_TEXT];
    wa_pg_system system;
    WA_TRY(open_conn(t, true, err));
    WA_CLEANUP(wa_bb_freep) wa_basebackup *bb = NULL;
    WA_TRY(wa_bb_begin(t->conn, &o, NULL, &bb, err));
    printf("start=%s\nstart_tli=%u\n", wa_lsn_format(bb->start_lsn, lsn), bb->start_tli);
    for (size_t i = 0; i < bb->tablespace_count; i++)
        printf("tablespace=%u %s %" PRId64 "\n", bb->tablespaces[i].oid,
               bb->tablespaces[i].location != NULL ? bb->tablespaces[i].location : "",
               bb->tablespaces[i].size_kb);
    printf("total=%" PRIu64 "\n", bb->total_bytes);
    (void)fflush(stdout);
    WA_TRY(store_backup(bb, t->argv[0], err));
    printf("end=%s\nend_tli=%u\n", wa_lsn_format(bb->end_lsn, lsn), bb->end_tli);
    return wa_pg_identify(t->conn, &system, err); /* the connection is usable again */
}

static wa_status
cmd_control(tool *t, wa_error *err)
{
    wa_control c;
    char a[WA_LSN_TEXT], b[WA_LSN_TEXT];
    WA_TRY(wa_control_read(t->argv[0], &c, err));
    printf("system_identifier=%" PRIu64 "\ncontrol_version=%u\ncatalog_version=%u\nmajor=%d\n",
           c.system_identifier, c.control_version, c.catalog_version, c.major);
    printf("state=%d\ncheckpoint=%s\nredo=%s\ntli=%u\nprev_tli=%u\n", c.state,
           wa_lsn_format(c.checkpoint, a), wa_lsn_format(c.redo, b), c.tli, c.prev_tli);
    printf("min_recovery_point=%s\nmin_recovery_tli=%u\n", wa_lsn_format(c.min_recovery_point, a),
           c.min_recovery_tli);
    printf("backup_start=%s\nbackup_end=%s\nbackup_end_required=%d\n",
           wa_lsn_format(c.backup_start, a), wa_lsn_format(c.backup_end, b), c.backup_end_required);
    printf("max_connections=%u\nmax_worker_processes=%u\nmax_wal_senders=%u\n"
           "max_prepared_xacts=%u\nmax_locks_per_xact=%u\n",
           c.max_connections, c.max_worker_processes, c.max_wal_senders, c.max_prepared_xacts,
           c.max_locks_per_xact);
    printf("block_size=%u\nwal_block_size=%u\nsegment_size=%" PRIu64 "\ndata_checksum_version=%u\n",
           c.block_size, c.wal_block_size, c.segment_size, c.data_checksum_version);
    long pid = 0;
    printf("running=%d\n", wa_data_dir_is_running(t->argv[0], &pid));
    printf("pid=%ld\n", pid);
    return WA_OK;
}

static wa_status
cmd_label(tool *t, wa_error *err)
{
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(1 << 16);
    wa_backup_label label;
    char a[WA_LSN_TEXT], b[WA_LSN_TEXT];
    WA_TRY(wa_file_read(t->argv[0], 1 << 15, &text, err));
    WA_TRY(wa_backup_label_parse(wa_buf_str(&text), text.len, &label, err));
    printf("start=%s\ncheckpoint=%s\n", wa_lsn_format(label.start_lsn, a),
           wa_lsn_format(label.checkpoint, b));
    printf("start_tli=%u\nstart_segment=%s\nfrom_standby=%d\n", label.start_tli,
           label.start_segment, label.from_standby);
    printf("incremental_from=%s\nincremental_from_tli=%u\n",
           wa_lsn_format(label.incremental_from, a), label.incremental_from_tli);
    return WA_OK;
}

static wa_status
parse_manifest(const char *path, wa_manifest_file_fn fn, void *arg, wa_manifest_info *ret,
               wa_error *err)
{
    WA_CLEANUP(wa_manifest_parser_freep)
    wa_manifest_parser *parser = wa_manifest_parser_new(fn, arg);
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    char chunk[4096];
    ssize_t n = 0;
    if (fd < 0)
        return wa_error_set(err, WA_IO, "could not open file \"%s\"", path);
    while ((n = read(fd, chunk, sizeof chunk)) > 0)
        WA_TRY(wa_manifest_feed(parser, chunk, (size_t)n, err));
    return wa_manifest_end(parser, ret, err);
}

static wa_status
print_file(void *arg, const wa_manifest_file *file, wa_error *err)
{
    char hex[2 * sizeof file->checksum + 1];
    (void)arg;
    (void)err;
    printf("%s\t%" PRIu64 "\t%s\t%s\n", file->path, file->size,
           wa_manifest_checksum_name(file->algorithm),
           wa_hex(file->checksum, file->checksum_len, hex));
    return WA_OK;
}

static wa_status
cmd_manifest(tool *t, wa_error *err)
{
    wa_manifest_info info;
    char a[WA_LSN_TEXT], b[WA_LSN_TEXT];
    WA_TRY(parse_manifest(t->argv[0], print_file, NULL, &info, err));
    printf("version=%d\nsystem_identifier=%" PRIu64 "\nfiles=%" PRIu64 "\nbytes=%" PRIu64 "\n",
           info.version, info.system_identifier, info.files, info.bytes);
    for (size_t i = 0; i < info.range_count; i++)
        printf("range=%u %s %s\n", info.ranges[i].tli, wa_lsn_format(info.ranges[i].start, a),
               wa_lsn_format(info.ranges[i].end, b));
    return WA_OK;
}

typedef struct rewriting {
    wa_manifest_writer *writer;
    wa_buf out;
} rewriting;

static wa_status
rewrite_file(void *arg, const wa_manifest_file *file, wa_error *err)
{
    rewriting *r = arg;
    return wa_manifest_write_file(r->writer, file, &r->out, err);
}

static wa_status
cmd_manifest_rewrite(tool *t, wa_error *err)
{
    wa_manifest_info info;
    WA_TRY(parse_manifest(t->argv[0], NULL, NULL, &info, err));
    WA_CLEANUP(wa_manifest_writer_freep)
    wa_manifest_writer *writer = wa_manifest_writer_new(info.version, info.system_identifier);
    rewriting r = {writer, WA_BUF_INIT(64u << 20)};
    wa_status status = parse_manifest(t->argv[0], rewrite_file, &r, &info, err);
    if (status == WA_OK)
        status = wa_manifest_write_end(writer, info.ranges, info.range_count, &r.out, err);
    if (status == WA_OK)
        status =
            wa_file_write(t->argv[1], wa_buf_str(&r.out), r.out.len, 0644, WA_WRITE_REPLACE, err);
    wa_buf_done(&r.out);
    return status;
}

static wa_status
cmd_settings(tool *t, wa_error *err)
{
    WA_CLEANUP(wa_strv_done) wa_strv pairs = {0};
    for (int i = 1; i + 1 < t->argc; i += 2) {
        wa_strv_add(&pairs, t->argv[i]);
        wa_strv_add(&pairs, t->argv[i + 1]);
    }
    return wa_settings_write(t->argv[0], &pairs, err);
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
    {"stream", 5, cmd_stream},         {"basebackup", 1, cmd_basebackup},
    {"control", 1, cmd_control},       {"label", 1, cmd_label},
    {"manifest", 1, cmd_manifest},     {"manifest-rewrite", 2, cmd_manifest_rewrite},
    {"settings", 1, cmd_settings},
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
