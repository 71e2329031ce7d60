/*
 * Fuzz target: a line of a backup's files.zst. No path that is accepted leaves the directory that a
 * restore writes to; the line reads the same after it was written again.
 */
#include "repo_internal.h"

#include <string.h>

#define LINE_ROOM (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

typedef struct outcome {
    char *path, *link;
    wa_backup_file file;
    wa_buf line;
} outcome;

static wa_status
take(void *arg, const wa_backup_file *f, wa_error *err)
{
    outcome *o = arg;

    (void)err;
    o->file = *f;
    o->path = wa_strdup(f->path);
    o->link = f->link == NULL ? NULL : wa_strdup(f->link);
    wa_backup_file_line(f, &o->line);
    return WA_OK;
}

static void
outcome_done(outcome *o)
{
    wa_freep(&o->path);
    wa_freep(&o->link);
    wa_buf_done(&o->line);
}

static void
check_path(const char *path)
{
    size_t len = strlen(path);

    WA_ASSERT(len > 0 && path[0] != '/' && path[len - 1] != '/');
    WA_ASSERT(strcmp(path, "..") != 0 && strncmp(path, "../", 3) != 0);
    WA_ASSERT(strstr(path, "/../") == NULL && strstr(path, "//") == NULL);
    WA_ASSERT(len < 3 || strcmp(path + len - 3, "/..") != 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    WA_CLEANUP(outcome_done) outcome first = {.line = WA_BUF_INIT(LINE_ROOM)};
    WA_CLEANUP(outcome_done) outcome again = {.line = WA_BUF_INIT(LINE_ROOM)};
    wa_error err = WA_ERROR_INIT;

    if (len > 65536)
        return 0;
    if (wa_backup_file_parse((const char *)data, len, "input", take, &first, &err) != WA_OK) {
        WA_ASSERT(err.status == WA_CORRUPT && err.message[0] != '\0' && first.path == NULL);
        return 0;
    }
    check_path(first.path);
    WA_ASSERT(wa_backup_file_parse(first.line.data, first.line.len, "output", take, &again, &err) ==
              WA_OK);
    WA_ASSERT(strcmp(again.path, first.path) == 0 && again.file.type == first.file.type);
    WA_ASSERT(again.file.size == first.file.size && again.file.offset == first.file.offset);
    WA_ASSERT(again.file.mode == first.file.mode && again.file.mtime == first.file.mtime);
    WA_ASSERT((again.link == NULL) == (first.link == NULL));
    WA_ASSERT(first.link == NULL || strcmp(again.link, first.link) == 0);
    return 0;
}
