#include "engine/auth/token_ask.h"
#include <curl/curl.h>
#include <curl/mprintf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define ANSWER_BYTES_MAX 65536u

struct page {
    size_t bytes;
    char text[ANSWER_BYTES_MAX];
};

static size_t page_take(char *bytes, size_t one, size_t count, void *owner)
{
    struct page *page = owner;
    size_t size = one * count;
    if (size > sizeof page->text - page->bytes) {
        return 0; /* which ends it */
    }
    memcpy(page->text + page->bytes, bytes, size);
    page->bytes += size;
    return size;
}

/* "token=..." in memory of curl's; NULL: memory is short. */
static char *form_make(CURL *curl, struct slice token)
{
    char *escaped = curl_easy_escape(curl, (const char *)token.bytes, (int)token.size);
    char *form =
        escaped == NULL ? NULL : curl_maprintf("token=%s&token_type_hint=access_token", escaped);
    curl_free(escaped);
    return form;
}

/* Nobody is believed but the endpoint itself: no redirections, no proxy of the environment's. */
static CURLcode ask(CURL *curl, const char *url, const char *credentials, const char *form,
                    struct page *page)
{
    CURLcode bad = curl_easy_setopt(curl, CURLOPT_URL, url);
    bad |= curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    bad |= curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    bad |= curl_easy_setopt(curl, CURLOPT_PROXY, "");
    bad |= curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)TOKEN_ASK_S);
    bad |= curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    bad |= curl_easy_setopt(curl, CURLOPT_POSTFIELDS, form);
    bad |= curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, page_take);
    bad |= curl_easy_setopt(curl, CURLOPT_WRITEDATA, page);
    if (credentials != NULL) {
        bad |= curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
        bad |= curl_easy_setopt(curl, CURLOPT_USERPWD, credentials);
    }
    return bad != CURLE_OK ? CURLE_OUT_OF_MEMORY : curl_easy_perform(curl);
}

static int page_read(CURL *curl, const struct page *page, json_t **claims,
                     char problem[BACKEND_PROBLEM_MAX])
{
    long code = 0;
    json_error_t error;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    if (code != 200) {
        snprintf(problem, BACKEND_PROBLEM_MAX, "HTTP %ld", code);
        return -EIO;
    }
    *claims = json_loadb(page->text, page->bytes, JSON_REJECT_DUPLICATES, &error);
    if (json_is_object(*claims)) {
        return 0;
    }
    json_decref(*claims);
    snprintf(problem, BACKEND_PROBLEM_MAX, "the answer is no JSON object");
    return -EIO;
}

int token_ask(const char *url, const char *credentials, struct slice token, json_t **claims,
              char problem[BACKEND_PROBLEM_MAX])
{
    CURL *curl = curl_easy_init();
    struct page *page = malloc(sizeof *page);
    char *form = curl == NULL ? NULL : form_make(curl, token);
    int status = -ENOMEM;
    problem[0] = '\0';
    if (form != NULL && page != NULL) {
        page->bytes = 0;
        CURLcode code = ask(curl, url, credentials, form, page);
        if (code == CURLE_OK) {
            status = page_read(curl, page, claims, problem);
        } else {
            snprintf(problem, BACKEND_PROBLEM_MAX, "%.200s", curl_easy_strerror(code));
            status = -EIO;
        }
    }
    if (form != NULL) {
        explicit_bzero(form, strlen(form));
    }
    curl_free(form);
    free(page);
    curl_easy_cleanup(curl);
    return status;
}
