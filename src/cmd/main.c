/*
 * main.c - the full program: find the command, parse its options, run it, map its status to an exit
 * code.
 */
#include "commands_internal.h"

#include "walagent/base/hook.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static wa_cancel interrupted; /* the only state of the process: signal handlers need it */

static void
on_signal(int signal_number)
{
    (void)signal_number;
    wa_cancel_trigger(&interrupted);
}

/* `run` takes its signals itself, by signalfd. */
static void
catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, NULL);
}

static int
unknown_command(const char *name)
{
    const char *names[64];
    size_t count = 0;
    for (; wa_commands[count] != NULL && count < WA_ARRAY_SIZE(names); count++)
        names[count] = wa_commands[count]->name;
    const char *nearest = wa_nearest(name, names, count);
    fprintf(stderr, "walagent: unknown command \"%s\"\n", name);
    if (nearest != NULL)
        fprintf(stderr, "HINT:  Did you mean \"%s\"? Try \"walagent --help\".\n", nearest);
    else
        fputs("HINT:  Try \"walagent --help\".\n", stderr);
    return 2;
}

const wa_command *
wa_command_find(const char *name)
{
    for (size_t i = 0; wa_commands[i] != NULL; i++)
        if (strcmp(wa_commands[i]->name, name) == 0)
            return wa_commands[i];
    return NULL;
}

static wa_status
parse_and_run(const wa_command *command, int argc, char **argv, wa_context *ctx, wa_error *err)
{
    WA_TRY(wa_command_parse(command, argc, (const char *const *)argv, ctx, err));
    if (wa_arg_flag(ctx, "help")) {
        wa_command_help(command, stdout);
        return WA_OK;
    }
    wa_log_setup(ctx->quiet     ? WA_LOG_WARNING
                 : ctx->verbose ? WA_LOG_DEBUG
                                : WA_LOG_INFO,
                 WA_LOG_TEXT);
    return command->run(ctx, err);
}

/* Of archive-get 1 says "not in the archive", which nothing but its own run() knows. The front
 * turns 4 into 254 where recovery must stop. */
static int
failure_code(const wa_command *command, wa_status status)
{
    int code = wa_exit_code(status);
    return command == &wa_command_archive_get && code == 1 ? 4 : code;
}

static int
run_command(const wa_command *command, int argc, char **argv)
{
    wa_error err = WA_ERROR_INIT;
    if (wa_cancel_init(&interrupted, &err) != WA_OK) {
        wa_print_error(&err);
        return failure_code(command, WA_FAILED);
    }
    catch_signals();
    wa_context ctx = {
        .command = command, .cancel = &interrupted, .exit_code = -1, .program = argv[0]};
    wa_status status = parse_and_run(command, argc - 2, argv + 2, &ctx, &err);
    if (status != WA_OK)
        wa_print_error(&err);
    int code = ctx.exit_code >= 0 ? ctx.exit_code : failure_code(command, status);
    wa_config_free(ctx.config);
    wa_freep(&ctx.parsed);
    free(ctx.operands);
    wa_cancel_done(&interrupted);
    return code;
}

/* walagent-main --man-pages DIR: all man pages (used by the build). */
static int
write_man_pages(const char *dir)
{
    wa_error err = WA_ERROR_INIT;
    wa_status status = wa_write_man_pages(dir, &err);
    if (status != WA_OK)
        wa_print_error(&err);
    return wa_exit_code(status);
}

int
main(int argc, char **argv)
{
    if (argc < 2) {
        wa_program_help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        wa_program_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        puts("walagent " WA_VERSION);
        return 0;
    }
    if (strcmp(argv[1], "--man-pages") == 0 && argc == 3)
        return write_man_pages(argv[2]);
    const wa_command *command = wa_command_find(argv[1]);
    if (command == NULL)
        return unknown_command(argv[1]);
    return run_command(command, argc, argv);
}
