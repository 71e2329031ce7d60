/*
 * basebackup.c - BASE_BACKUP as a sequence of events.
 *
 * After the results "start" (lsn, tli) and "tablespaces" (oid, location, size in kB) the server
 * sends one COPY OUT whose messages begin with
 *   'n'  NUL-terminated archive name, NUL-terminated tablespace directory ("" for the base one)
 *   'd'  bytes of the current archive or of the manifest
 *   'm'  the manifest begins
 *   'p'  i64 bytes done, big-endian
 * and then the result "end" (lsn, tli).
 */
#include "walagent/pg/basebackup.h"

#include "conn_internal.h"
#include "walagent/base/bytes.h"
#include "walagent/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define QUIET_TIMEOUT_MS 300000  /* between two messages */
#define START_TIMEOUT_MS 7200000 /* a spread checkpoint comes first */
#define UPLOAD_TIMEOUT_MS 600000 /* the server parses the manifest as it comes */
#define TABLESPACES_MAX 100000
#define UPLOAD_CHUNK 65536

/* What differs between majors; the last entry that isn't newer than the server counts. */
static const struct dialect {
    int first_major;
    bool incremental; /* UPLOAD_MANIFEST and INCREMENTAL */
} dialects[] = {{15, false}, {17, true}};

struct wa_bb_private {
    wa_pg_conn *conn;  /* borrowed */
    wa_cancel *cancel; /* borrowed */
    bool ended;
};

static const struct dialect *
dialect_of(int major)
{
    const struct dialect *found = NULL;
    for (size_t i = 0; i < WA_ARRAY_SIZE(dialects); i++)
        if (dialects[i].first_major <= major)
            found = &dialects[i];
    return found;
}

static wa_status
build_command(const wa_bb_options *o, char **ret, wa_error *err)
{
    const char *checksums = o->manifest_checksums != NULL ? o->manifest_checksums : "CRC32C";
    WA_CLEANUP(wa_freep) char *label = wa_pg_quote_literal(o->label);
    WA_CLEANUP(wa_freep) char *algorithm = wa_pg_quote_literal(checksums);
    WA_CLEANUP(wa_buf_done) wa_buf sql = WA_BUF_INIT(8192);
    if (strlen(o->label) > 1000)
        return wa_error_set(err, WA_INVALID, "backup label is longer than 1000 bytes");
    wa_buf_printf(&sql,
                  "BASE_BACKUP (LABEL %s, PROGRESS, CHECKPOINT '%s', WAIT 0, MANIFEST 'yes', "
                  "MANIFEST_CHECKSUMS %s",
                  label, o->fast_checkpoint ? "fast" : "spread", algorithm);
    if (o->max_rate > 0)
        wa_buf_printf(
            &sql, ", MAX_RATE %llu",
            (unsigned long long)(o->max_rate < WA_BB_RATE_MAX ? o->max_rate : WA_BB_RATE_MAX) /
                1024);
    if (o->incremental_manifest != NULL)
        wa_buf_puts(&sql, ", INCREMENTAL");
    wa_buf_puts(&sql, ")");
    *ret = wa_buf_detach(&sql);
    return WA_OK;
}

static wa_status
send_file(wa_pg_conn *conn, int fd, const char *path, wa_cancel *cancel, wa_mono deadline,
          wa_error *err)
{
    WA_CLEANUP(wa_freep) char *chunk = wa_malloc(UPLOAD_CHUNK);
    for (;;) {
        ssize_t n = read(fd, chunk, UPLOAD_CHUNK);
        if (n < 0)
            return wa_error_set(err, WA_IO, "could not read file \"%s\": %m", path);
        if (n == 0)
            return WA_OK;
        WA_TRY(wa_pg_copy_put(conn, chunk, (size_t)n, cancel, deadline, err));
    }
}

static wa_status
upload_manifest(wa_pg_conn *conn, const char *path, wa_cancel *cancel, wa_error *err)
{
    wa_mono deadline = wa_mono_now() + UPLOAD_TIMEOUT_MS;
    WA_CLEANUP(wa_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    WA_CLEANUP(wa_pg_clearp) PGresult *res = NULL;
    if (fd < 0)
        return wa_error_errno(err, errno, "could not open file \"%s\": %m", path);
    WA_TRY(wa_pg_send(conn, "UPLOAD_MANIFEST", cancel, deadline, err));
    wa_status status = wa_pg_next_result(conn, cancel, deadline, &res, err);
    if (status == WA_OK && PQresultStatus(res) != PGRES_COPY_IN)
        status = wa_error_set(err, WA_CORRUPT, "unexpected answer to UPLOAD_MANIFEST: %s",
                              PQresStatus(PQresultStatus(res)));
    /* Until the COPY is over nothing else can be said on this connection. */
    if (status == WA_OK)
        status = send_file(conn, fd, path, cancel, deadline, err);
    if (status == WA_OK)
        status = wa_pg_copy_end(conn, cancel, deadline, err);
    if (status != WA_OK)
        conn->broken = true;
    else
        status = wa_pg_drain(conn, cancel, deadline, err);
    return status == WA_OK ? WA_OK : wa_error_wrap(err, "could not upload manifest \"%s\"", path);
}

static wa_status
parse_position(const PGresult *res, const char *what, wa_lsn *ret_lsn, wa_tli *ret_tli,
               wa_error *err)
{
    uint64_t tli = 0;
    wa_lsn lsn = 0;
    WA_TRY(wa_pg_expect_row(res, 2, what, err));
    WA_TRY(wa_lsn_parse(PQgetvalue(res, 0, 0), &lsn, err));
    WA_TRY(wa_parse_u64(PQgetvalue(res, 0, 1), &tli, err));
    if (tli == 0 || tli > UINT32_MAX)
        return wa_error_set(err, WA_CORRUPT, "unexpected answer to %s: timeline %s", what,
                            PQgetvalue(res, 0, 1));
    *ret_lsn = lsn;
    *ret_tli = (wa_tli)tli;
    return WA_OK;
}

static wa_status
parse_tablespaces(const PGresult *res, wa_basebackup *bb, wa_error *err)
{
    int rows = PQntuples(res);
    if (PQresultStatus(res) != PGRES_TUPLES_OK || PQnfields(res) < 3 || rows < 1 ||
        rows > TABLESPACES_MAX)
        return wa_error_set(err, WA_CORRUPT, "unexpected answer to BASE_BACKUP: %s with %d rows",
                            PQresStatus(PQresultStatus(res)), rows);
    bb->tablespaces = wa_calloc((size_t)rows, sizeof bb->tablespaces[0]);
    for (int i = 0; i < rows; i++) {
        wa_bb_tablespace *t = &bb->tablespaces[bb->tablespace_count++];
        uint64_t oid = 0;
        t->size_kb = -1;
        if (!PQgetisnull(res, i, 0))
            WA_TRY(wa_parse_u64(PQgetvalue(res, i, 0), &oid, err));
        if (oid > UINT32_MAX)
            return wa_error_set(err, WA_CORRUPT, "unexpected tablespace %s", PQgetvalue(res, i, 0));
        t->oid = (uint32_t)oid;
        if (!PQgetisnull(res, i, 1))
            t->location = wa_strdup(PQgetvalue(res, i, 1));
        if (!PQgetisnull(res, i, 2)) {
            WA_TRY(wa_parse_i64(PQgetvalue(res, i, 2), &t->size_kb, err));
            if (t->size_kb > 0)
                bb->total_bytes += (uint64_t)t->size_kb * 1024;
        }
    }
    return WA_OK;
}

static wa_status
receive_start(wa_basebackup *bb, wa_error *err)
{
    struct wa_bb_private *p = bb->private_;
    wa_mono deadline = wa_mono_now() + START_TIMEOUT_MS;
    WA_CLEANUP(wa_pg_clearp) PGresult *start = NULL;
    WA_CLEANUP(wa_pg_clearp) PGresult *spaces = NULL;
    WA_CLEANUP(wa_pg_clearp) PGresult *copy = NULL;
    WA_TRY(wa_pg_next_result(p->conn, p->cancel, deadline, &start, err));
    WA_TRY(parse_position(start, "BASE_BACKUP", &bb->start_lsn, &bb->start_tli, err));
    WA_TRY(wa_pg_next_result(p->conn, p->cancel, deadline, &spaces, err));
    WA_TRY(parse_tablespaces(spaces, bb, err));
    WA_TRY(wa_pg_next_result(p->conn, p->cancel, deadline, &copy, err));
    if (PQresultStatus(copy) != PGRES_COPY_OUT)
        return wa_error_set(err, WA_CORRUPT, "unexpected answer to BASE_BACKUP: %s",
                            PQresStatus(PQresultStatus(copy)));
    return WA_OK;
}

wa_status
wa_bb_begin(wa_pg_conn *repl, const wa_bb_options *options, wa_cancel *cancel, wa_basebackup **ret,
            wa_error *err)
{
    const struct dialect *dialect = dialect_of(wa_pg_major(repl));
    WA_CLEANUP(wa_freep) char *sql = NULL;
    if (dialect == NULL)
        return wa_error_set(err, WA_UNSUPPORTED, "base backups of PostgreSQL %d are not supported",
                            wa_pg_major(repl));
    if (options->incremental_manifest != NULL && !dialect->incremental) {
        (void)wa_error_set(err, WA_UNSUPPORTED, "PostgreSQL %d can't send an incremental backup",
                           wa_pg_major(repl));
        return wa_error_hint(err, "Take a full backup; the server can do it from 17 on.");
    }
    WA_TRY(build_command(options, &sql, err));
    if (options->incremental_manifest != NULL)
        WA_TRY(upload_manifest(repl, options->incremental_manifest, cancel, err));
    WA_CLEANUP(wa_bb_freep) wa_basebackup *bb = wa_calloc(1, sizeof *bb);
    bb->private_ = wa_calloc(1, sizeof *bb->private_);
    bb->private_->conn = repl;
    bb->private_->cancel = cancel;
    bb->private_->ended = true; /* nothing to break off yet */
    WA_TRY(wa_pg_send(repl, sql, cancel, wa_mono_now() + WA_PG_COMMAND_TIMEOUT_MS, err));
    if (receive_start(bb, err) != WA_OK) {
        wa_error ignored = WA_ERROR_INIT;
        wa_mono deadline = wa_mono_now() + WA_PG_COMMAND_TIMEOUT_MS;
        /* Without an answer of the server's it may still be sending. */
        if (wa_pg_sqlstate(repl)[0] == '\0' ||
            (!repl->broken && wa_pg_drain(repl, cancel, deadline, &ignored) != WA_OK))
            repl->broken = true;
        return wa_error_wrap(err, "could not start a base backup");
    }
    bb->private_->ended = false;
    *ret = WA_TAKE(bb);
    return WA_OK;
}

static wa_status
parse_event(const char *data, size_t len, wa_bb_event *ret, wa_error *err)
{
    wa_bb_event e = {0};
    const char *name = data + 1;
    size_t left = len - 1;
    size_t name_len = left > 0 ? strnlen(name, left) : 0;
    switch (data[0]) {
    case 'n':
        if (name_len == left ||
            strnlen(name + name_len + 1, left - name_len - 1) == left - name_len - 1)
            break;
        e.kind = WA_BB_ARCHIVE;
        e.archive = name;
        e.location = name + name_len + 1;
        *ret = e;
        return WA_OK;
    case 'm':
        e.kind = WA_BB_MANIFEST;
        *ret = e;
        return WA_OK;
    case 'd':
        e.kind = WA_BB_DATA;
        e.data = data + 1;
        e.len = left;
        *ret = e;
        return WA_OK;
    case 'p':
        if (left < 8)
            break;
        e.kind = WA_BB_PROGRESS;
        e.bytes_done = wa_get_u64be(data + 1);
        *ret = e;
        return WA_OK;
    default:
        break;
    }
    return wa_error_set(err, WA_CORRUPT, "unexpected base backup message of type %d, %zu bytes",
                        data[0], len);
}

static wa_status
receive_end(wa_basebackup *bb, wa_bb_event *ret, wa_error *err)
{
    struct wa_bb_private *p = bb->private_;
    wa_mono deadline = wa_mono_now() + QUIET_TIMEOUT_MS;
    WA_CLEANUP(wa_pg_clearp) PGresult *res = NULL;
    wa_lsn lsn = 0;
    wa_tli tli = 0;
    WA_TRY(wa_pg_next_result(p->conn, p->cancel, deadline, &res, err));
    WA_TRY(parse_position(res, "the end of BASE_BACKUP", &lsn, &tli, err));
    /* Checksum failures are reported only here, after everything was sent. */
    WA_TRY(wa_pg_drain(p->conn, p->cancel, deadline, err));
    p->ended = true;
    bb->end_lsn = lsn;
    bb->end_tli = tli;
    *ret = (wa_bb_event){.kind = WA_BB_END};
    return WA_OK;
}

wa_status
wa_bb_next(wa_basebackup *bb, wa_bb_event *ret, wa_error *err)
{
    struct wa_bb_private *p = bb->private_;
    int len = 0;
    WA_ASSERT(!p->ended);
    if (p->conn->broken)
        return wa_error_set(err, WA_UNAVAILABLE, "lost the connection to server %s", p->conn->host);
    wa_status status = wa_pg_copy_get(p->conn, p->cancel, -1, QUIET_TIMEOUT_MS, &len, err);
    if (status == WA_OK && len == 0)
        status =
            wa_error_set(err, WA_UNAVAILABLE, "server %s sent nothing of the base backup for %d s",
                         p->conn->host, QUIET_TIMEOUT_MS / 1000);
    if (status == WA_OK && len < 0)
        status = receive_end(bb, ret, err);
    else if (status == WA_OK)
        status = parse_event(p->conn->copy_data, (size_t)len, ret, err);
    if (status == WA_OK)
        return WA_OK;
    p->conn->broken = true;
    return wa_error_wrap(err, "could not receive the base backup");
}

void
wa_bb_free(wa_basebackup *bb)
{
    if (bb == NULL)
        return;
    if (!bb->private_->ended)
        bb->private_->conn->broken = true; /* the rest of the backup is still on its way */
    for (size_t i = 0; i < bb->tablespace_count; i++)
        free(bb->tablespaces[i].location);
    free(bb->tablespaces);
    free(bb->private_);
    free(bb);
}
