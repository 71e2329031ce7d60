/*
 * test_options.c - arguments by a command's table.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "commands_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct parsed_line {
    wa_context ctx;
    wa_error err;
    wa_status status;
} parsed_line;

static parsed_line
parse(const wa_command *command, int argc, const char *const *argv)
{
    parsed_line p = {.ctx = {.command = command, .exit_code = -1}, .err = WA_ERROR_INIT};
    p.status = wa_command_parse(command, argc, argv, &p.ctx, &p.err);
    return p;
}

static void
done(parsed_line *p)
{
    wa_freep(&p->ctx.parsed);
    free(p->ctx.operands);
}

#define PARSE(command, ...)                                                                        \
    parse(command, (int)WA_ARRAY_SIZE(((const char *const[]){__VA_ARGS__})),                       \
          (const char *const[]){__VA_ARGS__})

static void
long_and_short_options_take_values_in_every_spelling(void **state)
{
    (void)state;
    parsed_line p =
        PARSE(&wa_command_restore, "-D", "/a", "--jobs=3", "--set", "a=1", "--set", "b=2", "-q");
    assert_int_equal(p.status, WA_OK);
    assert_string_equal(wa_arg_value(&p.ctx, "pgdata"), "/a");
    assert_string_equal(wa_arg_value(&p.ctx, "jobs"), "3");
    assert_true(p.ctx.quiet);
    WA_CLEANUP(wa_strv_done) wa_strv set = {0};
    wa_arg_list(&p.ctx, "set", &set);
    assert_int_equal(set.count, 2);
    assert_string_equal(set.items[1], "b=2");
    done(&p);
    p = PARSE(&wa_command_restore, "-D/b", "-qj4");
    assert_int_equal(p.status, WA_OK);
    assert_string_equal(wa_arg_value(&p.ctx, "pgdata"), "/b");
    assert_string_equal(wa_arg_value(&p.ctx, "jobs"), "4");
    done(&p);
}

static void
an_unknown_option_names_the_nearest_one(void **state)
{
    (void)state;
    parsed_line p = PARSE(&wa_command_restore, "--to-tim", "x");
    assert_int_equal(p.status, WA_INVALID);
    assert_non_null(strstr(p.err.message, "--to-tim"));
    assert_non_null(strstr(p.err.hint, "--to-time"));
    done(&p);
}

static void
a_missing_value_is_said(void **state)
{
    (void)state;
    parsed_line p = PARSE(&wa_command_restore, "-D");
    assert_int_equal(p.status, WA_INVALID);
    assert_non_null(strstr(p.err.message, "--pgdata"));
    done(&p);
}

static void
a_flag_refuses_a_value(void **state)
{
    (void)state;
    parsed_line p = PARSE(&wa_command_restore, "--standby=yes");
    assert_int_equal(p.status, WA_INVALID);
    done(&p);
}

static void
operands_are_counted(void **state)
{
    (void)state;
    parsed_line p = PARSE(&wa_command_config, "show", "more");
    assert_int_equal(p.status, WA_INVALID);
    assert_non_null(strstr(p.err.message, "more"));
    done(&p);
    p = PARSE(&wa_command_config, "--json");
    assert_int_equal(p.status, WA_INVALID);
    done(&p);
    p = PARSE(&wa_command_config, "--help");
    assert_int_equal(p.status, WA_OK);
    done(&p);
    p = PARSE(&wa_command_config, "--", "--json");
    assert_int_equal(p.status, WA_OK);
    assert_string_equal(p.ctx.operands[0], "--json");
    assert_false(p.ctx.json);
    done(&p);
}

/* Names must be unique, or one option would hide another. */
static void
every_command_has_a_sound_table(void **state)
{
    (void)state;
    for (size_t i = 0; wa_commands[i] != NULL; i++) {
        const wa_command *c = wa_commands[i];
        assert_non_null(c->summary);
        assert_non_null(c->description);
        assert_non_null(c->run);
        for (const wa_command_option *o = c->options; o != NULL && o->name != NULL; o++) {
            assert_non_null(o->doc);
            assert_int_equal(o->value == NULL, o->kind == WA_ARG_FLAG);
            for (const wa_command_option *n = o + 1; n->name != NULL; n++) {
                assert_string_not_equal(o->name, n->name);
                assert_false(o->letter != 0 && o->letter == n->letter);
            }
            for (const wa_command_option *n = wa_common_options; n->name != NULL; n++) {
                assert_string_not_equal(o->name, n->name);
                assert_false(o->letter != 0 && o->letter == n->letter);
            }
        }
    }
}

static char *
capture(const wa_command *command, void (*print)(const wa_command *, FILE *))
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    assert_non_null(f);
    print(command, f);
    fclose(f);
    return text;
}

static void
help_and_man_page_name_every_option(void **state)
{
    (void)state;
    for (size_t i = 0; wa_commands[i] != NULL; i++) {
        char *help = capture(wa_commands[i], wa_command_help);
        char *man = capture(wa_commands[i], wa_command_man);
        for (const wa_command_option *o = wa_commands[i]->options; o != NULL && o->name != NULL;
             o++) {
            WA_CLEANUP(wa_freep) char *dashed = wa_format("--%s", o->name);
            assert_non_null(strstr(help, dashed));
            WA_CLEANUP(wa_buf_done) wa_buf escaped = WA_BUF_INIT(256);
            for (const char *p = o->name; *p != '\0'; p++)
                wa_buf_puts(&escaped, *p == (char)45 ? "\\-" : (char[]){*p, 0});
            assert_non_null(strstr(man, wa_buf_str(&escaped)));
        }
        free(help);
        free(man);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_and_short_options_take_values_in_every_spelling),
        cmocka_unit_test(an_unknown_option_names_the_nearest_one),
        cmocka_unit_test(a_missing_value_is_said),
        cmocka_unit_test(a_flag_refuses_a_value),
        cmocka_unit_test(operands_are_counted),
        cmocka_unit_test(every_command_has_a_sound_table),
        cmocka_unit_test(help_and_man_page_name_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
