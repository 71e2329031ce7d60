/*
 * output.c - what people and scripts see: JSON, tables, errors, progress.
 */
#include "cmd_internal.h"

#include "walagent/base/thread.h"

#include <string.h>
#include <unistd.h>

void
wa_print_json(const json_t *json)
{
    WA_CLEANUP(wa_freep) char *text = wa_json_dump(json, isatty(STDOUT_FILENO) ? 2 : 0);
    puts(text);
}

void
wa_print_error(const wa_error *err)
{
    fprintf(stderr, "walagent: %s\n", err->message);
    if (err->hint[0] != '\0')
        fprintf(stderr, "HINT:  %s\n", err->hint);
}

struct wa_table {
    size_t columns, count;
    char **cells;
};

wa_table *
wa_table_new(size_t columns)
{
    wa_table *t = wa_calloc(1, sizeof *t);
    t->columns = columns;
    return t;
}

void
wa_table_cell(wa_table *t, const char *text)
{
    t->cells = wa_reallocarray(t->cells, t->count + 1, sizeof *t->cells);
    t->cells[t->count++] = wa_strdup(text);
}

/* Cells that look like numbers or sizes are aligned to the right. */
static bool
is_right_aligned(const char *text)
{
    return text[0] >= '0' && text[0] <= '9' && strchr(text, ':') == NULL &&
           strchr(text, '/') == NULL && strlen(text) <= 12;
}

void
wa_table_print(wa_table *t, FILE *out)
{
    size_t *width = wa_calloc(t->columns, sizeof *width);
    for (size_t i = 0; i < t->count; i++)
        if (strlen(t->cells[i]) > width[i % t->columns])
            width[i % t->columns] = strlen(t->cells[i]);
    for (size_t i = 0; i < t->count; i++) {
        size_t column = i % t->columns;
        bool last = column + 1 == t->columns;
        if (is_right_aligned(t->cells[i]))
            fprintf(out, "%*s%s", (int)width[column], t->cells[i], last ? "\n" : "  ");
        else
            fprintf(out, "%-*s%s", last ? 0 : (int)width[column], t->cells[i], last ? "\n" : "  ");
    }
    wa_freep(&width);
}

void
wa_table_free(wa_table *t)
{
    if (t == NULL)
        return;
    for (size_t i = 0; i < t->count; i++)
        wa_freep(&t->cells[i]);
    wa_freep(&t->cells);
    wa_freep(&t);
}

struct wa_progress_view {
    wa_progress *progress;
    const char *what;
    bool terminal;
    wa_mono started;
    wa_mutex mutex;
    wa_cond cond;
    bool stop;
    pthread_t thread;
};

static void
print_progress(const wa_progress_view *v)
{
    uint64_t done = atomic_load(&v->progress->done_bytes),
             total = atomic_load(&v->progress->total_bytes);
    uint64_t elapsed = wa_mono_now() - v->started;
    const char *phase = atomic_load(&v->progress->phase);
    char a[WA_SIZE_TEXT], b[WA_SIZE_TEXT], rate[WA_SIZE_TEXT], left[WA_SIZE_TEXT];
    fprintf(stderr, "%swalagent: %s: %s: %s", v->terminal ? "\r\033[K" : "", v->what,
            phase ? phase : "working", wa_format_size(done, a));
    if (total > 0)
        fprintf(stderr, " of %s (%u %%)", wa_format_size(total, b),
                (unsigned)(done >= total ? 100 : done * 100 / total));
    if (elapsed > 0 && done > 0)
        fprintf(stderr, ", %s/s", wa_format_size(done * 1000 / elapsed, rate));
    if (total > done && done > 0 && elapsed > 1000)
        fprintf(stderr, ", %s left", wa_format_duration_ms((total - done) * elapsed / done, left));
    fputs(v->terminal ? "" : "\n", stderr);
    fflush(stderr);
}

static void *
progress_main(void *arg)
{
    wa_progress_view *v = arg;
    wa_lock(&v->mutex);
    while (!v->stop) {
        if (!wa_cond_wait_until(&v->cond, &v->mutex, wa_mono_now() + (v->terminal ? 200 : 30000)) &&
            !v->stop)
            print_progress(v);
    }
    wa_unlock(&v->mutex);
    return NULL;
}

wa_progress_view *
wa_progress_show(const wa_context *ctx, wa_progress *progress, const char *what)
{
    if (ctx->quiet)
        return NULL;
    wa_progress_view *v = wa_calloc(1, sizeof *v);
    v->progress = progress;
    v->what = what;
    v->terminal = isatty(STDERR_FILENO) == 1;
    v->started = wa_mono_now();
    wa_mutex_init(&v->mutex);
    wa_cond_init(&v->cond);
    wa_error ignored = WA_ERROR_INIT;
    if (wa_thread_start(&v->thread, "progress", progress_main, v, &ignored) != WA_OK) {
        wa_mutex_done(&v->mutex);
        wa_cond_done(&v->cond);
        wa_freep(&v);
    }
    return v;
}

void
wa_progress_hide(wa_progress_view *v)
{
    if (v == NULL)
        return;
    wa_lock(&v->mutex);
    v->stop = true;
    wa_cond_signal(&v->cond);
    wa_unlock(&v->mutex);
    wa_thread_join(v->thread);
    if (v->terminal)
        fputs("\r\033[K", stderr);
    wa_mutex_done(&v->mutex);
    wa_cond_done(&v->cond);
    wa_freep(&v);
}

void
wa_print_event(void *arg, wa_log_level level, const char *message, const char *hint)
{
    const wa_context *ctx = arg;
    if (ctx->quiet && level < WA_LOG_WARNING)
        return;
    fprintf(stderr, "walagent: %s%s\n", level >= WA_LOG_WARNING ? "WARNING:  " : "", message);
    if (hint[0] != '\0')
        fprintf(stderr, "HINT:  %s\n", hint);
}
