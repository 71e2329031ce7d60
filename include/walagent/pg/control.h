/*
 * walagent/pg/control.h - global/pg_control, per major; a data directory's identity and state.
 *
 * Read-only. CORRUPT when the CRC is wrong, UNSUPPORTED for an unknown pg_control version.
 * Source: PostgreSQL src/include/catalog/pg_control.h of each major.
 */
#ifndef WALAGENT_PG_CONTROL_H
#define WALAGENT_PG_CONTROL_H

#include "walagent/base/error.h"
#include "walagent/base/time.h"

#include "walagent/pg/lsn.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum wa_db_state {
    WA_DB_STARTUP,
    WA_DB_SHUTDOWNED,
    WA_DB_SHUTDOWNED_IN_RECOVERY,
    WA_DB_SHUTDOWNING,
    WA_DB_IN_CRASH_RECOVERY,
    WA_DB_IN_ARCHIVE_RECOVERY,
    WA_DB_IN_PRODUCTION
} wa_db_state;
typedef struct wa_control {
    uint64_t system_identifier;
    uint32_t control_version, catalog_version;
    int major; /* from the two versions */
    wa_db_state state;
    wa_lsn checkpoint, redo;
    wa_tli tli, prev_tli;
    wa_lsn min_recovery_point;
    wa_tli min_recovery_tli;
    wa_lsn backup_start, backup_end;
    bool backup_end_required;
    uint32_t max_connections, max_worker_processes, max_wal_senders, max_prepared_xacts,
        max_locks_per_xact;
    uint32_t block_size, wal_block_size;
    uint32_t relation_segment_blocks; /* blocks of a relation in one file */
    uint64_t segment_size;
    uint32_t data_checksum_version;
} wa_control;
wa_status wa_control_parse(const void *data, size_t len, wa_control *ret,
                           wa_error *err) WA_MUST_CHECK;
wa_status wa_control_read(const char *data_dir, wa_control *ret, wa_error *err) WA_MUST_CHECK;
/* Is a server running in the directory (postmaster.pid of a live process)? */
bool wa_data_dir_is_running(const char *data_dir, long *ret_pid);

#endif
