/*
 * leftover.c - what killed runs of this machine left in the archive: found by their writer,
 * "host-pid-random" in the public facts of begin.json.
 *
 * A run of another machine can't be told from one that is slow, so those wait for 24 hours
 * (wa_backup_clean).
 */
#include "backup_internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Splits "host-pid-random" from its end: a host name may hold hyphens itself. */
static bool
parse_writer(char *writer, const char **ret_host, pid_t *ret_pid)
{
    char *random = strrchr(writer, '-');
    if (random == NULL)
        return false;
    *random = '\0';
    char *pid = strrchr(writer, '-');
    uint64_t number = 0;
    wa_error ignored = WA_ERROR_INIT;
    if (pid == NULL || wa_parse_u64(pid + 1, &number, &ignored) != WA_OK || number == 0 ||
        number > INT32_MAX)
        return false;
    *pid = '\0';
    *ret_host = writer;
    *ret_pid = (pid_t)number;
    return true;
}

bool
wa_backup_writer_is_dead(const char *their_writer, const char *our_writer)
{
    WA_CLEANUP(wa_freep) char *theirs = wa_strdup(their_writer);
    WA_CLEANUP(wa_freep) char *ours = wa_strdup(our_writer);
    const char *their_host = NULL, *our_host = NULL;
    pid_t pid = 0, our_pid = 0;
    if (strcmp(their_writer, our_writer) == 0 || !parse_writer(theirs, &their_host, &pid) ||
        !parse_writer(ours, &our_host, &our_pid) || strcmp(their_host, our_host) != 0)
        return false;
    /* A pid of our own with another random part is a process that was there before us. */
    return pid == our_pid || (kill(pid, 0) != 0 && errno == ESRCH);
}

wa_status
wa_backup_clean_dead(wa_repo *repo, size_t *ret_count, wa_error *err)
{
    WA_CLEANUP(wa_backups_done) wa_backups backups = {0};
    WA_TRY(wa_backups_load(repo, &backups, err));
    size_t count = 0;
    for (size_t i = 0; i < backups.unfinished.count; i++) {
        const char *label = backups.unfinished.items[i];
        WA_CLEANUP(wa_freep) char *key = wa_backup_key(repo, label, "begin.json");
        WA_CLEANUP(wa_freep) char *meta = NULL;
        wa_status status = wa_store_head(wa_repo_store(repo), key, NULL, NULL, &meta, err);
        if (status == WA_NOT_FOUND) { /* it ended meanwhile */
            wa_error_clear(err);
            continue;
        }
        WA_TRY(status);
        WA_CLEANUP(wa_json_freep) json_t *facts = NULL;
        WA_TRY(wa_json_parse(meta, strlen(meta), key, &facts, err));
        if (!wa_backup_writer_is_dead(wa_json_string_or(facts, "writer", ""), wa_repo_writer(repo)))
            continue;
        WA_TRY(wa_backup_abandon(repo, label, "the process that took it is gone", err));
        count++;
    }
    *ret_count = count;
    return WA_OK;
}
