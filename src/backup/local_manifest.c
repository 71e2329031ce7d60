/*
 * local_manifest.c - the manifest of a local backup, written as PostgreSQL writes it, into
 * backup_manifest.zst.
 */
#include "local_internal.h"

#include "walagent/base/bytes.h"

#include <time.h>

#define FLUSH_AT (256u * 1024)

struct wa_local_manifest {
    wa_manifest_writer *writer;
    wa_buf text;
    wa_sink *object;
    wa_container_writer *container;
    char label[WA_LABEL_SIZE];
};

wa_status
wa_local_manifest_new(wa_repo *repo, const wa_backup_info *info, int level, wa_local_manifest **ret,
                      wa_error *err)
{
    WA_CLEANUP(wa_local_manifest_freep) wa_local_manifest *m = wa_calloc(1, sizeof *m);
    m->writer = wa_manifest_writer_new(info->major >= 17 ? 2 : 1, info->system_identifier);
    wa_buf_init(&m->text, 4 * FLUSH_AT);
    snprintf(m->label, sizeof m->label, "%s", info->label);
    WA_TRY(wa_backup_begin_manifest(repo, info->label, level, &m->object, &m->container, err));
    *ret = WA_TAKE(m);
    return WA_OK;
}

static wa_status
flush(wa_local_manifest *m, size_t above, wa_error *err)
{
    if (m->text.len <= above)
        return WA_OK;
    WA_TRY(wa_container_write(m->container, m->text.data, m->text.len, err));
    wa_buf_reset(&m->text);
    return WA_OK;
}

wa_status
wa_local_manifest_add(wa_local_manifest *m, const char *path, uint64_t size, int64_t mtime,
                      uint32_t crc, wa_error *err)
{
    char when[32];
    time_t seconds = (time_t)mtime;
    struct tm tm;
    if (gmtime_r(&seconds, &tm) == NULL ||
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S GMT", &tm) == 0)
        return wa_error_set(err, WA_INVALID, "file \"%s\" has an impossible time", path);
    wa_manifest_file file = {.path = path,
                             .size = size,
                             .mtime = when,
                             .algorithm = WA_MANIFEST_CRC32C,
                             .checksum_len = 4};
    wa_put_u32le(file.checksum, crc);
    WA_TRY(wa_manifest_write_file(m->writer, &file, &m->text, err));
    return flush(m, FLUSH_AT, err);
}

wa_status
wa_local_manifest_finish(wa_local_manifest *m, const wa_manifest_range *ranges, size_t count,
                         uint64_t *ret_stored, wa_error *err)
{
    WA_TRY(wa_manifest_write_end(m->writer, ranges, count, &m->text, err));
    WA_TRY(flush(m, 0, err));
    return wa_backup_commit_manifest(m->label, m->object, m->container, ret_stored, err);
}

void
wa_local_manifest_free(wa_local_manifest *m)
{
    if (m == NULL)
        return;
    wa_manifest_writer_free(m->writer);
    wa_buf_done(&m->text);
    wa_container_writer_free(m->container);
    wa_sink_free(m->object);
    wa_freep(&m);
}

size_t
wa_local_wal_ranges(const wa_history *history, wa_tli start_tli, wa_lsn start, wa_lsn end,
                    wa_manifest_range ret[static 64])
{
    size_t count = 0, i = history->count;
    wa_tli tli = history->tli;
    for (;;) { /* from the last timeline back to the first */
        bool first = tli == start_tli || i == 0;
        wa_lsn begin = first ? start : history->entries[i - 1].end;
        ret[count++] = (wa_manifest_range){.tli = tli, .start = begin, .end = end};
        if (first || count == 64)
            return count;
        end = begin;
        tli = history->entries[--i].tli;
    }
}
