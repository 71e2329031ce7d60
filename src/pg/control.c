/*
 * control.c - global/pg_control, and whether a server runs in a data directory.
 *
 * Little-endian offsets, the same for versions 1300 (PostgreSQL 13 to 16) and 1700:
 *     0 u64 system identifier      8 u32 control version     12 u32 catalog version
 *    16 u32 state                 32 u64 checkpoint          40 u64 redo
 *    48 u32 tli                   52 u32 previous tli       136 u64 minimum recovery point
 *   144 u32 its tli              152 u64 backup start       160 u64 backup end
 *   168 u8  backup end required  180 u32 max_connections    184 u32 max_worker_processes
 *   188 u32 max_wal_senders      192 u32 max_prepared_xacts 196 u32 max_locks_per_xact
 *   216 u32 block size           220 u32 blocks in a file of a relation
 *   224 u32 WAL block size       228 u32 segment size
 *   252 u32 data checksum version                            288 u32 CRC-32C of what is before
 * Version 1800 has one flag more near the end: the CRC is at 292. The file is 8192 bytes.
 */
#include "walagent/pg/control.h"

#include "walagent/base/bytes.h"
#include "walagent/base/crc32c.h"
#include "walagent/base/file.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CONTROL_FILE_SIZE 8192

static const struct {
    uint32_t control_version;
    size_t crc_offset;
} layouts[] = {{1300, 288}, {1700, 288}, {1800, 292}};

static const struct {
    uint32_t catalog_version;
    int major;
} majors[] = {{202007201, 13}, {202107181, 14}, {202209061, 15},
              {202307071, 16}, {202406281, 17}, {202506291, 18}};

static int
major_of(uint32_t catalog_version)
{
    for (size_t i = 0; i < WA_ARRAY_SIZE(majors); i++)
        if (majors[i].catalog_version == catalog_version)
            return majors[i].major;
    return 0;
}

static wa_status
find_crc(const uint8_t *data, size_t len, size_t *ret, wa_error *err)
{
    if (len < 16)
        return wa_error_set(err, WA_CORRUPT, "pg_control has only %zu bytes", len);
    uint32_t version = wa_get_u32le(data + 8);
    for (size_t i = 0; i < WA_ARRAY_SIZE(layouts); i++) {
        if (layouts[i].control_version != version)
            continue;
        if (len < layouts[i].crc_offset + 4)
            return wa_error_set(err, WA_CORRUPT, "pg_control has only %zu bytes", len);
        *ret = layouts[i].crc_offset;
        return WA_OK;
    }
    return wa_error_set(err, WA_UNSUPPORTED, "pg_control has unknown version %u", version);
}

wa_status
wa_control_parse(const void *data, size_t len, wa_control *ret, wa_error *err)
{
    const uint8_t *d = data;
    size_t crc_offset = 0;
    WA_TRY(find_crc(d, len, &crc_offset, err));
    if (wa_crc32c(0, d, crc_offset) != wa_get_u32le(d + crc_offset))
        return wa_error_set(err, WA_CORRUPT, "pg_control's checksum doesn't match");
    uint32_t state = wa_get_u32le(d + 16);
    if (state > WA_DB_IN_PRODUCTION)
        return wa_error_set(err, WA_CORRUPT, "pg_control has unknown state %u", state);
    *ret = (wa_control){
        .system_identifier = wa_get_u64le(d),
        .control_version = wa_get_u32le(d + 8),
        .catalog_version = wa_get_u32le(d + 12),
        .major = major_of(wa_get_u32le(d + 12)),
        .state = (wa_db_state)state,
        .checkpoint = wa_get_u64le(d + 32),
        .redo = wa_get_u64le(d + 40),
        .tli = wa_get_u32le(d + 48),
        .prev_tli = wa_get_u32le(d + 52),
        .min_recovery_point = wa_get_u64le(d + 136),
        .min_recovery_tli = wa_get_u32le(d + 144),
        .backup_start = wa_get_u64le(d + 152),
        .backup_end = wa_get_u64le(d + 160),
        .backup_end_required = d[168] != 0,
        .max_connections = wa_get_u32le(d + 180),
        .max_worker_processes = wa_get_u32le(d + 184),
        .max_wal_senders = wa_get_u32le(d + 188),
        .max_prepared_xacts = wa_get_u32le(d + 192),
        .max_locks_per_xact = wa_get_u32le(d + 196),
        .block_size = wa_get_u32le(d + 216),
        .relation_segment_blocks = wa_get_u32le(d + 220),
        .wal_block_size = wa_get_u32le(d + 224),
        .segment_size = wa_get_u32le(d + 228),
        .data_checksum_version = wa_get_u32le(d + 252),
    };
    return WA_OK;
}

wa_status
wa_control_read(const char *data_dir, wa_control *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(data_dir, "global/pg_control");
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(2 * CONTROL_FILE_SIZE);
    /* A running server rewrites the file in place: a torn reading shows in the CRC, so read again.
     */
    for (int tries = 1;; tries++) {
        wa_buf_reset(&text);
        WA_TRY(wa_file_read(path, CONTROL_FILE_SIZE, &text, err));
        wa_status status = wa_control_parse(wa_buf_str(&text), text.len, ret, err);
        if (status == WA_OK)
            return WA_OK;
        if (status != WA_CORRUPT || tries == 3)
            return wa_error_wrap(err, "could not read \"%s\"", path);
    }
}

/* The postmaster's working directory is its data directory: a recycled process id shows there. */
static bool
process_is_elsewhere(long pid, const char *data_dir)
{
    char cwd[64];
    struct stat theirs, ours;
    (void)snprintf(cwd, sizeof cwd, "/proc/%ld/cwd", pid);
    if (stat(cwd, &theirs) != 0 || stat(data_dir, &ours) != 0)
        return false; /* can't tell */
    return theirs.st_dev != ours.st_dev || theirs.st_ino != ours.st_ino;
}

bool
wa_data_dir_is_running(const char *data_dir, long *ret_pid)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(data_dir, "postmaster.pid");
    WA_CLEANUP(wa_buf_done) wa_buf text = WA_BUF_INIT(16 * 1024);
    wa_error err = WA_ERROR_INIT;
    if (wa_file_read(path, 8 * 1024, &text, &err) != WA_OK)
        return err.status != WA_NOT_FOUND;                /* unreadable: assume the worst */
    long pid = labs(strtol(wa_buf_str(&text), NULL, 10)); /* negative: single-user mode */
    if (pid <= 0 || (kill((pid_t)pid, 0) != 0 && errno == ESRCH) ||
        process_is_elsewhere(pid, data_dir))
        return false;
    if (ret_pid != NULL)
        *ret_pid = pid;
    return true;
}
