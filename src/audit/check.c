/*
 * check.c - the preflight's frame, and its steps that need only the repository and this machine.
 */
#include "walagent/audit/check.h"

#include "check_internal.h"

#include "walagent/base/file.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#define SPACE_WARNING (1024ull * 1024 * 1024)

const char *
wa_verdict_name(wa_verdict v)
{
    return v == WA_VERDICT_OK ? "ok" : v == WA_VERDICT_WARNING ? "warning" : "failed";
}

void
wa_findings_done(wa_findings *f)
{
    wa_freep(&f->items);
    memset(f, 0, sizeof *f);
}

void
wa_check_add(check *c, wa_verdict verdict, const char *what, const char *hint, const char *fmt, ...)
{
    wa_findings *f = c->findings;
    f->items = wa_reallocarray(f->items, f->count + 1, sizeof *f->items);
    wa_finding *one = &f->items[f->count++];
    memset(one, 0, sizeof *one);
    one->verdict = verdict;
    snprintf(one->what, sizeof one->what, "%s", what);
    snprintf(one->hint, sizeof one->hint, "%s", hint != NULL ? hint : "");
    va_list args;
    va_start(args, fmt);
    vsnprintf(one->detail, sizeof one->detail, fmt, args);
    va_end(args);
    f->failed += verdict == WA_VERDICT_FAILED;
    f->warnings += verdict == WA_VERDICT_WARNING;
}

void
wa_check_add_error(check *c, wa_verdict verdict, const char *what, const wa_error *err)
{
    wa_check_add(c, verdict, what, err->hint, "%s", err->message);
}

static void
check_repository(check *c)
{
    wa_error err = WA_ERROR_INIT;
    wa_repo *repo = c->options->repo;
    if (wa_repo_load(repo, &err) != WA_OK) {
        c->repo_away = err.status == WA_UNAVAILABLE;
        wa_check_add_error(c, WA_VERDICT_FAILED, "repository", &err);
        return;
    }
    c->repo_loaded = true;
    const wa_cluster *cluster = wa_repo_cluster(repo);
    wa_check_add(c, WA_VERDICT_OK, "repository", NULL,
                 "%s holds cluster \"%s\": system identifier %" PRIu64 ", PostgreSQL %d",
                 wa_store_get_traits(wa_repo_store(repo))->url, wa_repo_cluster_name(repo),
                 cluster->system_identifier, cluster->major);
}

/* Written, read back, re-written (must be refused) and removed. Not where the repository is away:
 * on a file system that isn't mounted the probe would create its directory. */
static void
check_store(check *c)
{
    if (c->repo_away) {
        wa_check_add(c, WA_VERDICT_WARNING, "store", NULL,
                     "not tried: the repository can't be reached");
        return;
    }
    wa_error err = WA_ERROR_INIT;
    bool conditional = false;
    WA_CLEANUP(wa_freep)
    char *prefix = wa_format("%s/probe/", wa_repo_cluster_name(c->options->repo));
    if (wa_store_probe(wa_repo_store(c->options->repo), prefix, &conditional, &err) != WA_OK)
        wa_check_add_error(c, WA_VERDICT_FAILED, "store", &err);
    else if (conditional)
        wa_check_add(
            c, WA_VERDICT_OK, "store", NULL,
            "a probe object was written, read, protected against overwriting, and removed");
    else
        wa_check_add(c, WA_VERDICT_WARNING, "store",
                     "Run one agent only, and do not use synchronous mode with this store.",
                     "a probe object was written, read and removed; the store has no conditional "
                     "PUT, so two writers could overwrite each other");
}

static void
check_state_dir(check *c)
{
    wa_error err = WA_ERROR_INIT;
    const char *dir = c->options->state_dir;
    WA_CLEANUP(wa_freep) char *probe = wa_format("%s/check.%ld", dir, (long)getpid());
    if (wa_mkdir_p(dir, 0700, &err) != WA_OK ||
        wa_file_write(probe, "", 0, 0600, WA_WRITE_REPLACE, &err) != WA_OK) {
        wa_error_hint(&err, "Make state_dir of [agent] writable for the user that runs the agent.");
        wa_check_add_error(c, WA_VERDICT_FAILED, "state-dir", &err);
        return;
    }
    unlink(probe);
    char text[WA_SIZE_TEXT];
    uint64_t space = wa_disk_free(dir);
    if (space < SPACE_WARNING)
        wa_check_add(c, WA_VERDICT_WARNING, "state-dir",
                     "The spool takes up to spool_max while the repository is away.",
                     "\"%s\" has only %s free", dir, wa_format_size(space, text));
    else
        wa_check_add(c, WA_VERDICT_OK, "state-dir", NULL, "\"%s\" is writable, %s free", dir,
                     wa_format_size(space, text));
}

wa_status
wa_check_run(const wa_check_options *options, wa_findings *ret, wa_error *err)
{
    WA_CLEANUP(wa_findings_done) wa_findings findings = {0};
    check c = {.options = options, .findings = &findings};
    check_state_dir(&c);
    check_repository(&c);
    check_store(&c);
    wa_check_mirrors(&c);
    wa_check_server(&c);
    wa_check_slot(&c);
    wa_check_hosts(&c);
    wa_check_synchronous(&c);
    wa_check_archiver(&c);
    wa_check_clock(&c);
    wa_check_lineage(&c);
    wa_status status = wa_check_arrival(&c, err);
    wa_pg_close(c.repl);
    wa_pg_close(c.conn);
    WA_TRY(status);
    *ret = findings;
    memset(&findings, 0, sizeof findings);
    return WA_OK;
}
