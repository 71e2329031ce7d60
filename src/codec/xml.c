/*
 * codec/xml.c - S3's answers by path, over expat.
 *
 * Limits (an answer that passes them is CORRUPT): WA_XML_DEPTH nested elements, WA_XML_PATH bytes
 * of path, WA_XML_TEXT bytes of text in one element.
 */
#include "walagent/codec/xml.h"

#include "walagent/base/buf.h"
#include "walagent/base/str.h"

#include <expat.h>
#include <stdbool.h>
#include <string.h>

#define WA_XML_DEPTH 32
#define WA_XML_PATH 4096
#define WA_XML_TEXT (1024 * 1024)
#define WA_XML_STEP (1024 * 1024)

/* Newer expat has the same with a result of one size everywhere, and warns about the old one. */
#if XML_MAJOR_VERSION > 2 || (XML_MAJOR_VERSION == 2 && XML_MINOR_VERSION >= 9)
#define CURRENT_LINE XML_GetCurrentLineNumber64
#else
#define CURRENT_LINE XML_GetCurrentLineNumber
#endif

typedef struct level {
    size_t parent_path; /* length of the parent's path */
    bool has_children;
} level;

typedef struct parser {
    XML_Parser expat;
    const char *what;
    wa_xml_fn fn;
    void *arg;
    wa_error *err;
    wa_status
        status; /* the first failure; expat may call handlers once more after it was stopped */
    size_t depth;
    level levels[WA_XML_DEPTH];
    wa_buf path;
    wa_buf text;
} parser;

static void
parser_done(parser *p)
{
    XML_ParserFree(p->expat);
    wa_buf_done(&p->path);
    wa_buf_done(&p->text);
}

static void
stop(parser *p, wa_status status)
{
    p->status = status;
    XML_StopParser(p->expat, XML_FALSE);
}

static void
stop_corrupt(parser *p, const char *why)
{
    stop(p, wa_error_set(p->err, WA_CORRUPT, "%s %s", p->what, why));
}

static const char *
local_name(const char *name)
{
    const char *colon = strrchr(name, ':');
    return colon ? colon + 1 : name;
}

static void
on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
    parser *p = arg;
    wa_error ignored = WA_ERROR_INIT;

    (void)attributes;
    if (p->status != WA_OK)
        return;
    if (p->depth == WA_XML_DEPTH) {
        stop_corrupt(p, "is nested too deeply");
        return;
    }
    if (p->depth > 0)
        p->levels[p->depth - 1].has_children = true;
    p->levels[p->depth++] = (level){p->path.len, false};
    name = local_name(name);
    if ((p->path.len > 0 && wa_buf_append(&p->path, "/", 1, &ignored) != WA_OK) ||
        wa_buf_append(&p->path, name, strlen(name), &ignored) != WA_OK)
        stop_corrupt(p, "has a name that is too long");
    wa_buf_reset(&p->text);
}

static void
on_end(void *arg, const XML_Char *name)
{
    parser *p = arg;

    (void)name;
    if (p->status != WA_OK)
        return;
    level *l = &p->levels[--p->depth];
    const char *text = l->has_children ? NULL : wa_buf_str(&p->text);
    wa_status status = p->fn(p->arg, wa_buf_str(&p->path), text, p->err);
    if (status != WA_OK) {
        stop(p, status);
        return;
    }
    p->path.len = l->parent_path;
    if (p->path.data)
        p->path.data[p->path.len] = '\0';
    wa_buf_reset(&p->text);
}

static void
on_text(void *arg, const XML_Char *text, int len)
{
    parser *p = arg;
    wa_error ignored = WA_ERROR_INIT;

    if (p->status != WA_OK || p->depth == 0)
        return;
    if (wa_buf_append(&p->text, text, (size_t)len, &ignored) != WA_OK)
        stop_corrupt(p, "has an element that is too long");
}

static void
on_doctype(void *arg, const XML_Char *name, const XML_Char *system_id, const XML_Char *public_id,
           int has_internal)
{
    parser *p = arg;

    (void)name;
    (void)system_id;
    (void)public_id;
    (void)has_internal;
    if (p->status == WA_OK)
        stop_corrupt(p, "has a document type declaration");
}

wa_status
wa_xml_parse(const char *data, size_t len, const char *what, wa_xml_fn fn, void *arg, wa_error *err)
{
    WA_CLEANUP(parser_done)
    parser p = {.what = what,
                .fn = fn,
                .arg = arg,
                .err = err,
                .path = WA_BUF_INIT(WA_XML_PATH),
                .text = WA_BUF_INIT(WA_XML_TEXT)};

    p.expat = XML_ParserCreate(NULL);
    WA_ASSERT(p.expat);
    XML_SetUserData(p.expat, &p);
    XML_SetElementHandler(p.expat, on_start, on_end);
    XML_SetCharacterDataHandler(p.expat, on_text);
    XML_SetStartDoctypeDeclHandler(p.expat, on_doctype);
    for (size_t done = 0; done <= len;) {
        size_t step = len - done < WA_XML_STEP ? len - done : WA_XML_STEP;
        bool last = done + step == len;
        enum XML_Status status = XML_Parse(p.expat, data ? data + done : "", (int)step, last);
        if (p.status != WA_OK)
            return p.status;
        if (status != XML_STATUS_OK)
            return wa_error_set(err, WA_CORRUPT, "%s is not valid XML: line %lu: %s", what,
                                (unsigned long)CURRENT_LINE(p.expat),
                                XML_ErrorString(XML_GetErrorCode(p.expat)));
        if (last)
            break;
        done += step;
    }
    return WA_OK;
}

typedef struct search {
    const char *path;
    char *text;
} search;

static wa_status
match_path(void *arg, const char *path, const char *text, wa_error *err)
{
    search *s = arg;

    (void)err;
    if (!s->text && text && wa_str_eq(path, s->path))
        s->text = wa_strdup(text);
    return WA_OK;
}

char *
wa_xml_find(const char *data, size_t len, const char *path)
{
    search s = {path, NULL};
    wa_error ignored = WA_ERROR_INIT;

    /* An error body that was cut off still tells what came before the cut. */
    wa_status status = wa_xml_parse(data, len, "XML", match_path, &s, &ignored);
    (void)status;
    return s.text;
}
