/*
 * push_ready.c - which files wait for archive_command: pg_wal/archive_status/<name>.ready.
 */
#include "walagent/wal/push.h"

#include "walagent/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

static void
close_dir(DIR **dir)
{
    if (*dir != NULL)
        closedir(*dir);
}

wa_status
wa_push_ready_after(const char *wal_dir, const char *name, size_t max, wa_strv *ret, wa_error *err)
{
    WA_CLEANUP(wa_freep) char *path = wa_path_join(wal_dir, "archive_status");
    WA_CLEANUP(close_dir) DIR *dir = opendir(path);
    if (dir == NULL)
        return wa_error_errno(err, errno, "could not open directory \"%s\": %m", path);
    WA_CLEANUP(wa_strv_done) wa_strv ready = {0};
    errno = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL; errno = 0) {
        if (!wa_str_ends(entry->d_name, ".ready"))
            continue;
        char *file = wa_strndup(entry->d_name, strlen(entry->d_name) - strlen(".ready"));
        if (wa_wal_file_kind_of(file) == WA_WAL_SEGMENT && strcmp(file, name) > 0)
            wa_strv_take(&ready, file);
        else
            wa_freep(&file);
    }
    if (errno != 0)
        return wa_error_errno(err, errno, "could not read directory \"%s\": %m", path);
    wa_strv_sort(&ready);
    wa_strv_done(ret);
    for (size_t i = 0; i < ready.count && i < max; i++)
        wa_strv_add(ret, ready.items[i]);
    return WA_OK;
}
