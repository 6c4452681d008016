/* tubepost resolve: where mail for a domain goes. */
#include "engine/main/tubepost.h"
#include <string.h>

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static void host_print(const json_t *host)
{
    size_t index;
    json_t *item;
    const char *tlsa = text_of(host, "tlsa");
    printf("  %5lld  %s%s%s", (long long)json_integer_value(json_object_get(host, "preference")),
           text_of(host, "name"),
           json_is_true(json_object_get(host, "secure")) ? ", validated" : "",
           json_is_true(json_object_get(host, "excluded")) ? ", excluded by MTA-STS" : "");
    if (json_is_true(json_object_get(host, "lookup_failed"))) {
        printf(", no answer");
    }
    if (strcmp(tlsa, "none") != 0) {
        printf(", TLSA records at %s: %s", text_of(host, "tlsa_base"), tlsa);
    }
    printf("\n");
    json_array_foreach(json_object_get(host, "addresses"), index, item)
    {
        printf("         %s\n", json_string_value(item));
    }
    json_array_foreach(json_object_get(host, "tlsa_records"), index, item)
    {
        printf("         TLSA %s\n", json_string_value(item));
    }
}

static void mta_sts_print(const json_t *mta_sts)
{
    size_t index;
    json_t *item;
    if (text_of(mta_sts, "id")[0] != '\0') {
        printf("  MTA-STS: %s, id %s, for %lld s:", text_of(mta_sts, "mode"),
               text_of(mta_sts, "id"),
               (long long)json_integer_value(json_object_get(mta_sts, "max_age_s")));
        json_array_foreach(json_object_get(mta_sts, "mx"), index, item)
        {
            printf(" %s", json_string_value(item));
        }
        printf("\n");
    }
    if (text_of(mta_sts, "failure")[0] != '\0') {
        printf("  MTA-STS: the last fetch failed: %s\n", text_of(mta_sts, "failure"));
    }
}

static void destination_print(const json_t *destination)
{
    size_t index;
    json_t *host;
    const char *status = text_of(destination, "status");
    printf("%s: %s", text_of(destination, "domain"), status);
    if (strcmp(status, "ok") != 0) {
        printf(", %lld %s %s\n",
               (long long)json_integer_value(json_object_get(destination, "code")),
               text_of(destination, "enhanced"), text_of(destination, "text"));
        return;
    }
    printf(", site %s, %s%s, known for %lld s\n", text_of(destination, "site"),
           json_is_true(json_object_get(destination, "implicit_mx")) ? "no MX records"
                                                                     : "MX records",
           json_is_true(json_object_get(destination, "mx_secure")) ? " (validated)" : "",
           (long long)json_integer_value(json_object_get(destination, "expires_s")));
    json_array_foreach(json_object_get(destination, "hosts"), index, host)
    {
        host_print(host);
    }
    mta_sts_print(json_object_get(destination, "mta_sts"));
}

/* For scripts: does mail go there, never, or not now? */
static int code_of(const json_t *destination)
{
    const char *status = text_of(destination, "status");
    long long reply = json_integer_value(json_object_get(destination, "code"));
    return strcmp(status, "ok") == 0 ? EX_OK : reply >= 500 ? EX_NOHOST : EX_TEMPFAIL;
}

int tubepost_resolve(struct tool *tool, int count, char **words)
{
    char request[REQUEST_MAX];
    json_t *destination = NULL, *last = NULL;
    int taken = tool_options(tool, count, words);
    if (taken != TOOL_TAKEN) {
        return taken;
    }
    if (count - optind != 1 || strpbrk(words[optind], " \t\r\n") != NULL ||
        snprintf(request, sizeof request, "resolve %s", words[optind]) >= (int)sizeof request) {
        return tool_usage(EX_USAGE);
    }
    tool->patience_s += 120; /* servers that do not answer, and a policy to fetch */
    int code = tool_ask(tool, request, tool_keep_line, &destination, &last);
    json_decref(last);
    if (code == EX_OK && tool->as_json) {
        tool_print_json(destination);
    } else if (code == EX_OK) {
        destination_print(destination);
    }
    code = code == EX_OK ? code_of(destination) : code;
    json_decref(destination);
    return code;
}
