/*
 * pg/rmgr.c - the names of PostgreSQL's resource managers, the same in majors 13 to 18.
 */
#include "walagent/pg/walreader.h"

const char *
wa_rmgr_name(uint8_t rmid)
{
    static const char *const names[] = {
        "XLOG",       "Transaction",   "Storage", "CLOG",     "Database",
        "Tablespace", "MultiXact",     "RelMap",  "Standby",  "Heap2",
        "Heap",       "Btree",         "Hash",    "Gin",      "Gist",
        "Sequence",   "SPGist",        "BRIN",    "CommitTs", "ReplicationOrigin",
        "Generic",    "LogicalMessage"};

    return rmid < WA_ARRAY_SIZE(names) ? names[rmid] : NULL;
}
