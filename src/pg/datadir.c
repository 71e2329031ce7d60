/*
 * datadir.c - names in a data directory, and the rules for base backups that follow from them.
 */
#include "walagent/pg/datadir.h"

#include "walagent/base/str.h"

#include <string.h>

/* Made anew by the server, or about the running one only. */
static const char *const excluded[] = {
    "backup_label",
    "backup_label.old",
    "backup_manifest",
    "current_logfiles.tmp",
    "postgresql.auto.conf.tmp",
    "postmaster.opts",
    "postmaster.pid",
    "tablespace_map",
    "tablespace_map.old",
    ".DS_Store",
};
static const char *const excluded_prefixes[] = {"pgsql_tmp", "pg_internal.init"};
/* Emptied by the server when it starts, or (replication slots) no concern of the copy's. */
static const char *const emptied[] = {
    "pg_dynshmem",  "pg_notify",   "pg_replslot", "pg_serial",
    "pg_snapshots", "pg_stat_tmp", "pg_subtrans",
};

static size_t
digits(const char *s)
{
    return strspn(s, "0123456789");
}

/* A number as PostgreSQL writes it: at most 10 digits, no zero in front, and it fits. */
static bool
take_number(const char **at, uint32_t *ret)
{
    size_t len = digits(*at);
    uint64_t value = 0;
    if (len == 0 || len > 10 || **at == '0')
        return false;
    for (size_t i = 0; i < len; i++)
        value = value * 10 + (uint64_t)((*at)[i] - '0');
    if (value > UINT32_MAX)
        return false;
    *at += len;
    *ret = (uint32_t)value;
    return true;
}

bool
wa_relfile_parse(const char *name, wa_relfile *ret)
{
    static const struct {
        const char *suffix;
        wa_fork fork;
    } forks[] = {{"_fsm", WA_FORK_FSM}, {"_vm", WA_FORK_VM}, {"_init", WA_FORK_INIT}};
    wa_relfile file = {.fork = WA_FORK_MAIN};
    if (!take_number(&name, &file.number))
        return false;
    for (size_t i = 0; i < WA_ARRAY_SIZE(forks); i++)
        if (wa_str_starts(name, forks[i].suffix)) {
            file.fork = forks[i].fork;
            name += strlen(forks[i].suffix);
            break;
        }
    if (*name == '.') {
        name++;
        if (!take_number(&name, &file.segment))
            return false;
    }
    if (*name != '\0')
        return false;
    *ret = file;
    return true;
}

bool
wa_relfile_is_temporary(const char *name)
{
    wa_relfile ignored;
    size_t backend = name[0] == 't' ? digits(name + 1) : 0;
    return backend > 0 && name[1 + backend] == '_' &&
           wa_relfile_parse(name + 2 + backend, &ignored);
}

/* The last component is a number, and what is before it is `parent`'s. */
bool
wa_datadir_is_database(const char *dir)
{
    const char *last = strrchr(dir, '/');
    if (last == NULL || digits(last + 1) == 0 || last[1 + digits(last + 1)] != '\0')
        return false;
    if ((size_t)(last - dir) == strlen("base") && wa_str_starts(dir, "base"))
        return true;
    if (!wa_str_starts(dir, "pg_tblspc/"))
        return false;
    const char *oid = dir + strlen("pg_tblspc/");
    const char *version = oid + digits(oid);
    return version > oid && wa_str_starts(version, "/PG_") && strchr(version + 1, '/') == last;
}

bool
wa_datadir_has_relations(const char *dir)
{
    return wa_str_eq(dir, "global") || wa_datadir_is_database(dir);
}

bool
wa_datadir_is_excluded(const char *name)
{
    for (size_t i = 0; i < WA_ARRAY_SIZE(excluded); i++)
        if (strcmp(name, excluded[i]) == 0)
            return true;
    for (size_t i = 0; i < WA_ARRAY_SIZE(excluded_prefixes); i++)
        if (wa_str_starts(name, excluded_prefixes[i]))
            return true;
    return false;
}

bool
wa_datadir_is_emptied(const char *name)
{
    for (size_t i = 0; i < WA_ARRAY_SIZE(emptied); i++)
        if (strcmp(name, emptied[i]) == 0)
            return true;
    return false;
}
