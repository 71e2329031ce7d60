/*
 * walagent/pg/datadir.h - what the files of a data directory are, by their names: what a base
 * backup leaves out, and which files are relations.
 *
 * Paths are relative to the data directory, with a tablespace's content under pg_tblspc/<oid>/.
 * The rules are those of the server's own BASE_BACKUP, majors 15 to 18.
 */
#ifndef WALAGENT_PG_DATADIR_H
#define WALAGENT_PG_DATADIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum wa_fork { WA_FORK_MAIN, WA_FORK_FSM, WA_FORK_VM, WA_FORK_INIT } wa_fork;
typedef struct wa_relfile {
    uint32_t number; /* relfilenode */
    wa_fork fork;
    uint32_t segment; /* "16384.3": 3 */
} wa_relfile;

/* "16384", "16384_fsm", "16384_vm.1"; false for all else, temporary relations ("t3_16384") too. */
bool wa_relfile_parse(const char *name, wa_relfile *ret);
/* "t3_16384", "t3_16384_fsm.1": a temporary relation of a session. */
bool wa_relfile_is_temporary(const char *name);
/* A directory with relations: global, base/<oid>, pg_tblspc/<oid>/PG_.../<oid>. Unlogged and
 * temporary relations are not in global. */
bool wa_datadir_has_relations(const char *dir);
bool wa_datadir_is_database(const char *dir);

/* A file or directory that is not copied at all, wherever it is ("postmaster.pid",
 * "pgsql_tmp..."). */
bool wa_datadir_is_excluded(const char *name);
/* A directory that is copied without its content ("pg_replslot"). */
bool wa_datadir_is_emptied(const char *name);

#endif
