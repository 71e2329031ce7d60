/*
 * test_config.c - parsing, limits, environment twins, secrets, the sample file.
 */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */

#include "walagent/base/config.h"
#include "walagent/base/file.h"
#include "walagent/base/str.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static wa_config *
parsed(const char *text)
{
    wa_error err = WA_ERROR_INIT;
    wa_config *c = NULL;
    if (wa_config_parse("f.conf", text, strlen(text), &c, &err) != WA_OK)
        fail_msg("%s", err.message);
    return c;
}

static void
assert_refused(const char *text, const char *message, const char *hint)
{
    wa_error err = WA_ERROR_INIT;
    wa_config *c = NULL;
    assert_int_equal(wa_config_parse("f.conf", text, strlen(text), &c, &err), WA_INVALID);
    assert_null(c);
    assert_string_equal(err.message, message);
    if (hint != NULL)
        assert_string_equal(err.hint, hint);
    assert_true(err.hint[0] != '\0'); /* there is always a way out */
}

static void
an_empty_file_gives_the_defaults(void **state)
{
    (void)state;
    WA_CLEANUP(wa_config_freep) wa_config *c = parsed("");
    assert_string_equal(wa_config_string(c, "cluster", "name"), "main");
    assert_null(wa_config_string(c, "repository", "url"));
    assert_int_equal(wa_config_duration_ms(c, "archive", "tail_interval"), 1000);
    assert_int_equal(wa_config_size(c, "archive", "spool_max"), 10ULL << 30);
    assert_int_equal(wa_config_size(c, "archive", "prefetch_max"), 256ULL << 20);
    assert_int_equal(wa_config_int(c, "archive", "compression_level"), 3);
    assert_true(wa_config_bool(c, "repository", "s3_verify_tls"));
    assert_string_equal(wa_config_string(c, "agent", "listen"), "127.0.0.1:9877");
    assert_string_equal(wa_config_string(c, "agent", "socket"), "/run/walagent/main.sock");
    assert_string_equal(wa_config_origin(c, "agent", "socket"), "default");
    assert_false(wa_config_is_set(c, "agent", "socket"));
    assert_null(wa_config_path(c));
    assert_null(wa_config_repositories(c)[0]);
}

static void
values_say_where_they_come_from(void **state)
{
    (void)state;
    WA_CLEANUP(wa_config_freep)
    wa_config *c = parsed("# comment\n[cluster]\nname = prod-1\n\n[archive]\nspool_max=1GiB\n");
    assert_string_equal(wa_config_string(c, "cluster", "name"), "prod-1");
    assert_string_equal(wa_config_origin(c, "cluster", "name"), "f.conf line 3");
    assert_string_equal(wa_config_origin(c, "archive", "spool_max"), "f.conf line 6");
    assert_true(wa_config_is_set(c, "archive", "spool_max"));
    assert_string_equal(wa_config_string(c, "agent", "socket"), "/run/walagent/prod-1.sock");
}

static void
comments_and_quotes_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *line, *value;
    } cases[] = {
        {"conninfo = host=a user=b", "host=a user=b"},
        {"conninfo=host=a", "host=a"},
        {"  conninfo\t=\thost=a  ", "host=a"},
        {"conninfo = host=a # not this", "host=a"},
        {"conninfo = host=a ; not this", "host=a"},
        {"conninfo = host=a#b;c", "host=a#b;c"},
        {"conninfo = password=\"a # b\" user=c # d", "password=\"a # b\" user=c"},
        {"conninfo = password=\"a \\\" # b\" # d", "password=\"a \\\" # b\""},
        {"conninfo = \"a # b\" # c", "a # b"},
        {"conninfo = \"  a\\\"b\\\\c  \"", "  a\"b\\c  "},
        {"conninfo = \"\"", ""},
        {"conninfo =", ""},
        {"conninfo = # nothing", ""},
        {"conninfo = host='h\\x'", "host='h\\x'"},
        {"conninfo = caf\xc3\xa9", "caf\xc3\xa9"},
    };
    for (size_t i = 0; i < WA_ARRAY_SIZE(cases); i++) {
        static const char *const ends[] = {"", "\n", "\r\n"};
        for (size_t e = 0; e < WA_ARRAY_SIZE(ends); e++) {
            WA_CLEANUP(wa_freep)
            char *text = wa_format("[cluster]\n%s%s", cases[i].line, ends[e]);
            WA_CLEANUP(wa_config_freep) wa_config *c = parsed(text);
            assert_string_equal(wa_config_string(c, "cluster", "conninfo"), cases[i].value);
        }
    }
}

static void
a_byte_order_mark_is_passed_over(void **state)
{
    (void)state;
    WA_CLEANUP(wa_config_freep) wa_config *c = parsed("\xEF\xBB\xBF[cluster]\nname = x\n");
    assert_string_equal(wa_config_string(c, "cluster", "name"), "x");
}

static void
broken_lines_are_refused_with_their_number(void **state)
{
    (void)state;
    assert_refused("[cluster\n", "f.conf line 1: invalid section header", NULL);
    assert_refused("[cluster] x\n", "f.conf line 1: invalid section header", NULL);
    assert_refused("[]\n", "f.conf line 1: invalid section header", NULL);
    assert_refused("[cluster]\nname\n", "f.conf line 2: neither a section nor \"key = value\"",
                   NULL);
    assert_refused("[cluster]\n= x\n", "f.conf line 2: neither a section nor \"key = value\"",
                   NULL);
    assert_refused("name = x\n", "f.conf line 1: key \"name\" before the first section",
                   "Put a section such as [cluster] above it.");
    assert_refused("[cluster]\nconninfo = \"x\n", "f.conf line 2: the quoted value doesn't end",
                   NULL);
    assert_refused("[cluster]\nconninfo = \"x\\n\"\n",
                   "f.conf line 2: only \\\" and \\\\ may follow a backslash in quotes", NULL);
    assert_refused("[cluster]\nconninfo = \"x\\",
                   "f.conf line 2: only \\\" and \\\\ may follow a backslash in quotes", NULL);
    assert_refused("[cluster]\nconninfo = \"x\" y\n", "f.conf line 2: text after the quoted value",
                   NULL);
    assert_refused("[cluster]\nconninfo = a\"b\n",
                   "f.conf line 2: the value has a double quote that isn't closed", NULL);
    assert_refused("[cluster]\nconninfo = a\x01\n", "f.conf line 2: control character", NULL);
    assert_refused("[cluster]\nname = a\n[archive]\n[cluster]\nname = b\n",
                   "f.conf line 5: \"name\" was already set (f.conf line 2)", NULL);
}

static void
a_nul_byte_is_refused(void **state)
{
    (void)state;
    static const char text[] = "[cluster]\nname = a\0b\n";
    wa_error err = WA_ERROR_INIT;
    wa_config *c = NULL;
    assert_int_equal(wa_config_parse("f", text, sizeof text - 1, &c, &err), WA_INVALID);
    assert_string_equal(err.message, "f line 2: control character");
    assert_string_equal(err.hint,
                        "A configuration is plain text: is this the right file, and is it whole?");
}

static void
an_unknown_key_is_named_with_file_line_and_the_nearest(void **state)
{
    (void)state;
    assert_refused("[cluster]\n\nconinfo = x\n",
                   "f.conf line 3: unknown key \"coninfo\" in section [cluster]",
                   "Did you mean \"conninfo\"?");
    assert_refused("[archive]\nlisten = x\n",
                   "f.conf line 2: unknown key \"listen\" in section [archive]",
                   "\"listen\" belongs to section [agent].");
    assert_refused("[archive]\nzzzzzzzz = x\n",
                   "f.conf line 2: unknown key \"zzzzzzzz\" in section [archive]",
                   "\"walagent config show\" lists all keys.");
    assert_refused("[repository dr]\nulr = file:///x\n",
                   "f.conf line 2: unknown key \"ulr\" in section [repository]",
                   "Did you mean \"url\"?");
    assert_refused("[archve]\n", "f.conf line 1: unknown section [archve]",
                   "Did you mean [archive]?");
    assert_refused("[cluster two]\n", "f.conf line 1: unknown section [cluster two]", NULL);
    assert_refused("[cluster]\nname_file = /x\n",
                   "f.conf line 2: unknown key \"name_file\" in section [cluster]", NULL);
}

static void
values_are_checked_against_type_and_limits(void **state)
{
    (void)state;
    assert_refused("[cluster]\nname = Main\n", "f.conf line 2: name: invalid cluster name \"Main\"",
                   "1 to 63 lower-case letters, digits, '-' and '_'.");
    assert_refused("[cluster]\nname =\n", "f.conf line 2: name: invalid cluster name \"\"", NULL);
    assert_refused("[cluster]\ndata_dir = data\n",
                   "f.conf line 2: data_dir: path \"data\" is not absolute", NULL);
    assert_refused("[archive]\ncompression_level = 20\n",
                   "f.conf line 2: compression_level: value \"20\" is out of range",
                   "From 1 to 19.");
    assert_refused("[archive]\ncompression_level = 0\n",
                   "f.conf line 2: compression_level: value \"0\" is out of range", NULL);
    assert_refused("[archive]\nspool_max = 1kB\n",
                   "f.conf line 2: spool_max: value \"1kB\" is out of range", "At least 1MiB.");
    assert_refused("[archive]\ntail_interval = 1m\n",
                   "f.conf line 2: tail_interval: invalid duration \"1m\"",
                   "Write a whole number and one of ms, s, min, h, d.");
    assert_refused("[archive]\nacknowledge = disk\n",
                   "f.conf line 2: acknowledge: invalid value \"disk\"",
                   "One of repository|spool.");
    assert_refused("[archive]\nacknowledge = repository|spool\n",
                   "f.conf line 2: acknowledge: invalid value \"repository|spool\"", NULL);
    assert_refused("[repository]\nurl = ftp://x\n", "f.conf line 2: url: invalid URL \"ftp://x\"",
                   NULL);
    assert_refused("[repository]\nurl = s3://\n", "f.conf line 2: url: invalid URL \"s3://\"",
                   NULL);
    assert_refused("[repository]\ns3_verify_tls = maybe\n",
                   "f.conf line 2: s3_verify_tls: invalid switch \"maybe\"", "Write on or off.");
    assert_refused("[backup]\njobs = -1\n", "f.conf line 2: jobs: invalid number \"-1\"", NULL);
}

static void
further_repositories_have_their_own_values_and_defaults(void **state)
{
    (void)state;
    WA_CLEANUP(wa_config_freep)
    wa_config *c = parsed("[repository]\nurl = s3://a/b\ns3_addressing = path\n"
                          "[repository dr]\nurl = file:///dr\n[repository  off-site]\n"
                          "[repository dr]\ns3_region = x\n");
    const char *const *names = wa_config_repositories(c);
    assert_string_equal(names[0], "dr");
    assert_string_equal(names[1], "off-site");
    assert_null(names[2]);
    assert_string_equal(wa_config_string(c, "repository", "url"), "s3://a/b");
    assert_string_equal(wa_config_string(c, "repository dr", "url"), "file:///dr");
    assert_string_equal(wa_config_string(c, "repository dr", "s3_region"), "x");
    assert_string_equal(wa_config_string(c, "repository dr", "s3_addressing"), "auto");
    assert_null(wa_config_string(c, "repository off-site", "url"));
    assert_refused("[repository DR]\n", "f.conf line 1: invalid repository name \"DR\"", NULL);
}

static char dir_template[] = "/tmp/wa-test-config-XXXXXX";
static char dir[sizeof dir_template];

static void
clear_environment(void)
{
    for (bool found = true; found;) {
        found = false;
        for (char **p = environ; *p != NULL && !found; p++) {
            if (strncmp(*p, "WALAGENT_", 9) != 0)
                continue;
            WA_CLEANUP(wa_freep) char *name = wa_strndup(*p, strcspn(*p, "="));
            unsetenv(name);
            found = true;
        }
    }
}

static int
set_up(void **state)
{
    (void)state;
    clear_environment();
    memcpy(dir, dir_template, sizeof dir);
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int
tear_down(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    clear_environment();
    return wa_remove_tree(dir, &err) == WA_OK ? 0 : -1;
}

static char *
written(const char *name, const char *content)
{
    wa_error err = WA_ERROR_INIT;
    char *path = wa_path_join(dir, name);
    assert_int_equal(wa_file_write(path, content, strlen(content), 0600, WA_WRITE_REPLACE, &err),
                     WA_OK);
    return path;
}

static wa_config *
loaded(const char *path)
{
    wa_error err = WA_ERROR_INIT;
    wa_config *c = NULL;
    if (wa_config_load(path, &c, &err) != WA_OK)
        fail_msg("%s", err.message);
    assert_int_equal(err.status, WA_OK);
    return c;
}

static void
assert_load_refused(const char *path, const char *message, const char *hint)
{
    wa_error err = WA_ERROR_INIT;
    wa_config *c = NULL;
    assert_int_equal(wa_config_load(path, &c, &err), WA_INVALID);
    assert_null(c);
    assert_string_equal(err.message, message);
    if (hint != NULL)
        assert_string_equal(err.hint, hint);
    assert_true(err.hint[0] != '\0');
}

static void
the_environment_wins_over_the_file(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep)
    char *path = written("c", "[cluster]\nname = a\n[agent]\nlisten = :1\n[repository off-site]\n");
    setenv("WALAGENT_CLUSTER_NAME", "b", 1);
    setenv("WALAGENT_AGENT_LISTEN", "", 1);
    setenv("WALAGENT_ARCHIVE_SPOOL_MAX", "1GiB", 1);
    setenv("WALAGENT_REPOSITORY_S3_REGION", "r", 1);
    setenv("WALAGENT_REPOSITORY__OFF_SITE__URL", "file:///o", 1);
    setenv("WALAGENT_REPOSITORY__NEW_ONE__S3_REGION", "n", 1);
    WA_CLEANUP(wa_config_freep) wa_config *c = loaded(path);
    assert_string_equal(wa_config_path(c), path);
    assert_string_equal(wa_config_string(c, "cluster", "name"), "b");
    assert_string_equal(wa_config_origin(c, "cluster", "name"),
                        "environment WALAGENT_CLUSTER_NAME");
    assert_string_equal(wa_config_string(c, "agent", "listen"), "");
    assert_int_equal(wa_config_size(c, "archive", "spool_max"), 1ULL << 30);
    assert_string_equal(wa_config_string(c, "repository", "s3_region"), "r");
    assert_string_equal(wa_config_string(c, "repository off-site", "url"), "file:///o");
    assert_string_equal(wa_config_string(c, "repository new_one", "s3_region"), "n");
    assert_null(wa_config_repositories(c)[2]);
}

/* Every key has a twin, and its value is checked as in the file. */
static void
every_key_can_be_set_by_the_environment(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) char *path = written("c", "");
    for (const wa_option *o = wa_options; o->section != NULL; o++) {
        WA_CLEANUP(wa_freep) char *name = wa_format("WALAGENT_%s_%s", o->section, o->key);
        for (char *p = name; *p != '\0'; p++)
            if (*p >= 'a' && *p <= 'z')
                *p = (char)(*p - 'a' + 'A');
        const char *value = o->fallback != NULL  ? o->fallback
                            : o->example != NULL ? o->example
                                                 : "secret";
        setenv(name, value, 1);
        WA_CLEANUP(wa_config_freep) wa_config *c = loaded(path);
        assert_string_equal(wa_config_string(c, o->section, o->key), value);
        assert_true(wa_str_ends(wa_config_origin(c, o->section, o->key), name));
        unsetenv(name);
    }
}

static void
misspelt_variables_are_refused_and_foreign_ones_passed_over(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) char *path = written("c", "");
    setenv("WALAGENT_AGENT_SERVICE_HOST", "10.0.0.1", 1);
    setenv("WALAGENT_PORT_9877_TCP", "x", 1);
    setenv("WALAGENT_X", "x", 1);
    wa_config_free(loaded(path));
    setenv("WALAGENT_ARCHIVE_SPOOL_MAXX", "1GiB", 1);
    assert_load_refused(path,
                        "environment WALAGENT_ARCHIVE_SPOOL_MAXX: unknown key \"spool_maxx\" "
                        "in section [archive]",
                        "Did you mean \"spool_max\"?");
    unsetenv("WALAGENT_ARCHIVE_SPOOL_MAXX");
    setenv("WALAGENT_ARCHIVE_SPOOL_MAX", "lots", 1);
    assert_load_refused(
        path, "environment WALAGENT_ARCHIVE_SPOOL_MAX: spool_max: invalid size \"lots\"", NULL);
    unsetenv("WALAGENT_ARCHIVE_SPOOL_MAX");
    setenv("WALAGENT_REPOSITORY__D!R__URL", "file:///x", 1);
    assert_load_refused(path,
                        "environment WALAGENT_REPOSITORY__D!R__URL: invalid repository name "
                        "\"d!r\"",
                        "1 to 63 letters, digits and '_'.");
    unsetenv("WALAGENT_REPOSITORY__D!R__URL");
    WA_CLEANUP(wa_freep) char *two = written("two", "[repository a-b]\n[repository a_b]\n");
    setenv("WALAGENT_REPOSITORY__A_B__URL", "file:///x", 1);
    assert_load_refused(two,
                        "environment WALAGENT_REPOSITORY__A_B__URL: repositories \"a-b\" and "
                        "\"a_b\" can't be told apart",
                        "Set it in the file, or give one of them another name.");
}

static void
a_secret_can_be_in_a_file(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) char *secret = written("secret", "s3cr3t # not a comment\r\nsecond\n");
    WA_CLEANUP(wa_freep) char *other = written("other", "other");
    WA_CLEANUP(wa_freep)
    char *text = wa_format("[repository]\ns3_secret_access_key_file = %s\n", secret);
    WA_CLEANUP(wa_freep) char *path = written("c", text);
    {
        WA_CLEANUP(wa_config_freep) wa_config *c = loaded(path);
        assert_string_equal(wa_config_string(c, "repository", "s3_secret_access_key"),
                            "s3cr3t # not a comment");
    }
    setenv("WALAGENT_REPOSITORY_S3_SECRET_ACCESS_KEY_FILE", other, 1);
    WA_CLEANUP(wa_config_freep) wa_config *c = loaded(path);
    assert_string_equal(wa_config_string(c, "repository", "s3_secret_access_key"), "other");
    setenv("WALAGENT_REPOSITORY_S3_SECRET_ACCESS_KEY", "x", 1);
    wa_error err = WA_ERROR_INIT;
    wa_config *both = NULL;
    assert_int_equal(wa_config_load(path, &both, &err), WA_INVALID);
    assert_non_null(strstr(err.message, "are set"));
    assert_string_equal(err.hint, "Unset one of them.");
}

static void
a_secret_file_that_is_missing_or_empty_is_refused(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) char *empty = written("empty", "\nx\n");
    WA_CLEANUP(wa_freep)
    char *path = written("c", "[repository]\ns3_session_token_file = /nonexistent/t\n");
    WA_CLEANUP(wa_freep)
    char *missing = wa_format("%s line 2: s3_session_token_file: could not open file "
                              "\"/nonexistent/t\": No such file or directory",
                              path);
    assert_load_refused(path, missing, "Create it, or correct its name.");
    WA_CLEANUP(wa_freep) char *text = wa_format("[cluster]\nconninfo_file = %s\n", empty);
    WA_CLEANUP(wa_freep) char *path2 = written("d", text);
    WA_CLEANUP(wa_freep)
    char *message =
        wa_format("%s line 2: conninfo_file: the first line of file \"%s\" is empty", path2, empty);
    assert_load_refused(path2, message, "The secret belongs there.");
}

/* root may read everything: as somebody else, then. */
static void
a_file_that_cannot_be_read_is_named_with_the_way_out(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) char *closed = written("closed", "[cluster]\nname = a\n");
    WA_CLEANUP(wa_freep) char *large = wa_malloc((1u << 20) + 2);
    memset(large, '#', (1u << 20) + 1);
    large[(1u << 20) + 1] = '\0';
    WA_CLEANUP(wa_freep) char *too_large = written("large", large);
    WA_CLEANUP(wa_freep)
    char *text = wa_format("[cluster]\nconninfo_file = %s\n", closed);
    WA_CLEANUP(wa_freep) char *secret = written("secret", text);
    WA_CLEANUP(wa_freep)
    char *message = wa_format("could not read the configuration: could not read file \"%s\": Is a "
                              "directory",
                              dir);
    assert_load_refused(dir, message, "Name a file, not the directory that it is in.");
    WA_CLEANUP(wa_freep)
    char *message2 = wa_format("could not read the configuration: file \"%s\" is larger than "
                               "1048576 bytes",
                               too_large);
    assert_load_refused(too_large, message2, "Is this the right file?");
    WA_CLEANUP(wa_freep) char *below_a_file = wa_path_join(closed, "x");
    WA_CLEANUP(wa_freep)
    char *message5 = wa_format("could not read the configuration: could not open file \"%s\": Not "
                               "a directory",
                               below_a_file);
    assert_load_refused(below_a_file, message5,
                        "Create it, or name another with -c or WALAGENT_CONFIG.");

    uid_t was = geteuid(), other = was == 0 ? 65534 : was;
    assert_int_equal(chmod(closed, 0), 0);
    assert_int_equal(chmod(secret, 0644), 0);
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(seteuid(other), 0);
    WA_CLEANUP(wa_freep)
    char *hint =
        wa_format("The user that runs walagent (uid %u) must be allowed to read it, and to "
                  "search the directories above it.",
                  (unsigned)other);
    WA_CLEANUP(wa_freep)
    char *message3 = wa_format("could not read the configuration: could not open file \"%s\": "
                               "Permission denied",
                               closed);
    assert_load_refused(closed, message3, hint);
    WA_CLEANUP(wa_freep)
    char *message4 = wa_format("%s line 2: conninfo_file: could not open file \"%s\": Permission "
                               "denied",
                               secret, closed);
    assert_load_refused(secret, message4, hint);
    assert_int_equal(seteuid(was), 0);
}

static void
the_file_is_found_by_argument_then_environment(void **state)
{
    (void)state;
    WA_CLEANUP(wa_freep) char *one = written("one", "[cluster]\nname = one\n");
    WA_CLEANUP(wa_freep) char *two = written("two", "[cluster]\nname = two\n");
    setenv("WALAGENT_CONFIG", two, 1);
    WA_CLEANUP(wa_config_freep) wa_config *a = loaded(one);
    WA_CLEANUP(wa_config_freep) wa_config *b = loaded(NULL);
    assert_string_equal(wa_config_string(a, "cluster", "name"), "one");
    assert_string_equal(wa_config_string(b, "cluster", "name"), "two");
    setenv("WALAGENT_CONFIG", "/nonexistent/c", 1);
    assert_load_refused(NULL,
                        "could not read the configuration: could not open file "
                        "\"/nonexistent/c\": No such file or directory",
                        "Create it, or name another with -c or WALAGENT_CONFIG.");
}

static void
the_environment_alone_is_enough(void **state)
{
    (void)state;
    if (access("/etc/walagent/walagent.conf", F_OK) == 0) {
        print_message("this machine has a configuration of its own\n");
        skip();
    }
    assert_load_refused(NULL,
                        "there is no configuration: file \"/etc/walagent/walagent.conf\" does "
                        "not exist",
                        NULL);
    setenv("WALAGENT_REPOSITORY_URL", "file:///r", 1);
    WA_CLEANUP(wa_config_freep) wa_config *c = loaded(NULL);
    assert_null(wa_config_path(c));
    assert_string_equal(wa_config_string(c, "repository", "url"), "file:///r");
}

static void
the_sample_in_the_tree_is_what_the_table_says(void **state)
{
    (void)state;
    wa_error err = WA_ERROR_INIT;
    WA_CLEANUP(wa_buf_done) wa_buf made = WA_BUF_INIT(1 << 20);
    WA_CLEANUP(wa_buf_done) wa_buf kept = WA_BUF_INIT(0);
    wa_config_write_sample(&made);
    assert_int_equal(wa_file_read(WA_SOURCE_DIR "/conf/walagent.conf", 1 << 20, &kept, &err),
                     WA_OK);
    assert_string_equal(wa_buf_str(&kept), wa_buf_str(&made));
}

/* With the '#' before every key removed: all keys are there, each with a value that is accepted. */
static void
the_sample_is_complete_and_valid(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf sample = WA_BUF_INIT(1 << 20);
    wa_config_write_sample(&sample);
    for (char *p = sample.data; p != NULL; p = strchr(p, '\n')) {
        p += *p == '\n' ? 1 : 0;
        if (p[0] == '#' && p[1] >= 'a' && p[1] <= 'z')
            p[0] = ' ';
    }
    WA_CLEANUP(wa_config_freep) wa_config *c = parsed(wa_buf_str(&sample));
    for (const wa_option *o = wa_options; o->section != NULL; o++) {
        assert_true(wa_config_is_set(c, o->section, o->key));
        if (o->fallback != NULL)
            assert_string_equal(wa_config_string(c, o->section, o->key), o->fallback);
    }
}

static void
the_reference_has_a_row_for_every_key(void **state)
{
    (void)state;
    WA_CLEANUP(wa_buf_done) wa_buf page = WA_BUF_INIT(1 << 20);
    wa_config_write_reference(&page);
    size_t rows = 0;
    for (const char *p = strstr(page.data, "\n| `"); p != NULL; p = strstr(p + 1, "\n| `"))
        rows++;
    size_t options = 0;
    for (const wa_option *o = wa_options; o->section != NULL; o++, options++) {
        WA_CLEANUP(wa_freep) char *row = wa_format("\n| `%s` |", o->key);
        assert_non_null(strstr(page.data, row));
    }
    assert_int_equal(rows, options);
}

#define in_directory(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_file_gives_the_defaults),
        cmocka_unit_test(values_say_where_they_come_from),
        cmocka_unit_test(comments_and_quotes_are_told_apart),
        cmocka_unit_test(a_byte_order_mark_is_passed_over),
        cmocka_unit_test(broken_lines_are_refused_with_their_number),
        cmocka_unit_test(a_nul_byte_is_refused),
        cmocka_unit_test(an_unknown_key_is_named_with_file_line_and_the_nearest),
        cmocka_unit_test(values_are_checked_against_type_and_limits),
        cmocka_unit_test(further_repositories_have_their_own_values_and_defaults),
        in_directory(the_environment_wins_over_the_file),
        in_directory(every_key_can_be_set_by_the_environment),
        in_directory(misspelt_variables_are_refused_and_foreign_ones_passed_over),
        in_directory(a_secret_can_be_in_a_file),
        in_directory(a_secret_file_that_is_missing_or_empty_is_refused),
        in_directory(a_file_that_cannot_be_read_is_named_with_the_way_out),
        in_directory(the_file_is_found_by_argument_then_environment),
        in_directory(the_environment_alone_is_enough),
        cmocka_unit_test(the_sample_in_the_tree_is_what_the_table_says),
        cmocka_unit_test(the_sample_is_complete_and_valid),
        cmocka_unit_test(the_reference_has_a_row_for_every_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
