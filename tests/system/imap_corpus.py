"""Messages that IMAP servers describe differently, when they do: (name, message) each."""
import base64

HEAD = (b"From: Ann Example <ann@example.test>\r\nTo: bob@example.test\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
        b"MIME-Version: 1.0\r\n")
PICTURE = base64.encodebytes(bytes(range(1, 256)) * 3).replace(b"\n", b"\r\n")


def headed(name, more, body=b""):
    return HEAD + b"Subject: " + name.encode() + b"\r\nMessage-ID: <" + name.replace(" ", "-").encode() + b"@example.test>\r\n" + more + b"\r\n" + body


INNER = (b"From: inner@example.test\r\nTo: Group: x@example.test, \"Y Z\" <y@example.test>;\r\nSubject: inner\r\nDate: Tue, 24 Nov 2026 01:02:03 -0500\r\n"
         b"Content-Type: multipart/mixed; boundary=in\r\n\r\npreamble\r\n--in\r\n\r\nfirst\r\n--in\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
         b"<p>second</p>\r\n--in--\r\nepilogue\r\n")
MIXED = (b"--m\r\nContent-Type: text/plain; charset=\"iso-8859-1\"; format=flowed\r\nContent-Language: de, en\r\n"
         b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe aus\r\n=20K=F6ln soft=\r\n break\r\n"
         b"--m\r\nContent-Type: image/png; name=\"a b.png\"\r\nContent-Transfer-Encoding: base64\r\nContent-ID: <pic@example.test>\r\n"
         b"Content-Description: a picture\r\nContent-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\r\nContent-Location: http://example.test/a.png\r\n"
         b"Content-Disposition: attachment; filename=\"a b.png\"; size=765\r\n\r\n" + PICTURE + b"--m--\r\n")

CORPUS = [
    ("plain", headed("plain", b"Content-Type: text/plain; charset=us-ascii\r\n", b"Hello there\r\nsecond line\r\n")),
    ("alternative", headed("alternative", b"Content-Type: multipart/alternative; boundary=\"a=1\"\r\n",
                           b"--a=1\r\nContent-Type: text/plain\r\n\r\nplain words\r\n--a=1\r\nContent-Type: text/html\r\n\r\n<b>rich words</b>\r\n--a=1--\r\n")),
    ("mixed", headed("mixed", b"Content-Type: multipart/mixed; boundary=m\r\n", MIXED)),
    ("rfc822", headed("nested", b"Content-Type: multipart/mixed; boundary=out\r\nReferences: <plain@example.test>\r\n",
                      b"--out\r\nContent-Type: text/plain\r\n\r\nsee below\r\n--out\r\nContent-Type: message/rfc822\r\n"
                      b"Content-Disposition: inline\r\n\r\n" + INNER + b"--out--\r\n")),
    ("rfc822 alone", headed("Re: plain", b"Content-Type: message/rfc822\r\nIn-Reply-To: <plain@example.test>\r\n", INNER)),
    ("digest", headed("digest", b"Content-Type: multipart/digest; boundary=d\r\n",
                      b"--d\r\n\r\nFrom: one@example.test\r\nSubject: one\r\n\r\nbody one\r\n--d\r\n\r\nFrom: two@example.test\r\nSubject: two\r\n\r\nbody two\r\n--d--\r\n")),
    ("no headers", b"\r\nonly a body\r\n"),
    ("no body", HEAD + b"Subject: no body\r\n\r\n"),
    ("no empty line", HEAD + b"Subject: no empty line\r\n"),
    ("8-bit", headed("8-bit", b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n", "Grüße aus Köln\r\n".encode())),
    ("8-bit header", HEAD + "Subject: grüner Köder\r\nX-Raw: ä\r\n\r\nx\r\n".encode()),
    ("encoded words", b"From: =?utf-8?q?J=C3=BCrgen?= <j@example.test>\r\nTo: =?iso-8859-1?b?SvxyZ2Vu?= <k@example.test>\r\n"
                      b"Subject: =?utf-8?b?R3LDvMOfZQ==?= =?utf-8?q?_aus_K=C3=B6ln?= end\r\nDate: Wed, 25 Nov 2026 23:30:00 -0800\r\n\r\nbody\r\n"),
    ("no last boundary", headed("no last boundary", b"Content-Type: multipart/mixed; boundary=x\r\n",
                                b"--x\r\nContent-Type: text/plain\r\n\r\none\r\n--x\r\nContent-Type: text/plain\r\n\r\ntwo\r\n")),
    ("no boundary at all", headed("no boundary at all", b"Content-Type: multipart/mixed; boundary=x\r\n", b"nothing here\r\n")),
    ("no boundary parameter", headed("no boundary parameter", b"Content-Type: multipart/mixed\r\n", b"--x\r\n\r\none\r\n--x--\r\n")),
    ("bad type", headed("bad type", b"Content-Type: text\r\n", b"x\r\n")),
    ("worse type", headed("worse type", b"Content-Type: ; charset\r\nContent-Transfer-Encoding: strange\r\nContent-Disposition:\r\n", b"x\r\n")),
    ("odd addresses", b"From: (comment) \"Quoted \\\"Name\\\"\" <\"odd local\"@example.test>\r\nSender: s@example.test (Sender Name)\r\nReply-To: <>\r\n"
                      b"To: undisclosed-recipients:;\r\nCc: Friends: a@example.test, B <b@example.test>;, c@example.test\r\n"
                      b"Bcc: <@relay.test,@other.test:d@example.test>, local-only, x@[192.0.2.1]\r\nDate: 1 Jan 27 1:02 EST\r\n"
                      b"Subject: odd  addresses\r\n  folded\r\nMessage-ID: <left@right> trailing\r\nIn-Reply-To: <a@b> <c@d>\r\n\r\nx\r\n"),
    ("long lines", HEAD + b"Subject: " + b"long " * 300 + b"\r\nX-Long: " + b"y" * 3000 + b"\r\nReferences: " +
     b"\r\n ".join(b"<r%d@example.test>" % n for n in range(60)) + b"\r\n\r\n" + b"z" * 2000 + b"\r\n"),
    ("duplicates", b"From: a@example.test\r\nFrom: b@example.test\r\nTo: c@example.test\r\nTo: d@example.test\r\nSubject: first\r\nSubject: second\r\n"
                   b"Date: Thu, 26 Nov 2026 12:00:00 +0100\r\nX-Twice: 1\r\nx-twice: 2\r\nMIME-Version: 1.0\r\n\r\nx\r\n"),
    ("attachment alone", headed("attachment alone", b"Content-Type: application/octet-stream; name=x.bin\r\nContent-Transfer-Encoding: base64\r\n"
                                b"Content-Disposition: attachment; filename=x.bin\r\n", PICTURE)),
    ("bare charset", headed("bare charset", b"Content-Type: text/plain; charset=koi8-r\r\n", "\u043f\u0440\u0438\u0432\u0435\u0442\r\n".encode("koi8-r"))),
    ("parameter pieces", headed("parameter pieces", b"Content-Type: application/x-thing; name*0=\"long \"; name*1=\"name\"; title*=utf-8'en'%C3%A4\r\n"
                                b"Content-Disposition: attachment; filename*=utf-8''%E2%82%AC.txt\r\n", b"x\r\n")),
    ("deep", headed("deep", b"Content-Type: multipart/mixed; boundary=1\r\n",
                    b"--1\r\nContent-Type: multipart/related; boundary=2; type=\"text/html\"\r\n\r\n--2\r\nContent-Type: multipart/alternative; boundary=3\r\n\r\n"
                    b"--3\r\n\r\nthree\r\n--3\r\nContent-Type: text/html\r\n\r\n<i>3</i>\r\n--3--\r\n--2\r\nContent-Type: image/gif\r\n\r\nGIF\r\n--2--\r\n--1\r\n\r\nlast\r\n--1--\r\n")),
    ("empty parts", headed("empty parts", b"Content-Type: multipart/mixed; boundary=e\r\n", b"--e\r\n--e\r\n\r\n--e\r\nContent-Type: text/plain\r\n--e--\r\n")),
    ("reply", headed("RE: [list] plain (fwd)", b"References: <plain@example.test> <missing@example.test>\r\nCc: zed@example.test\r\n", b"again\r\n")),
    ("no trailing line end", headed("no trailing line end", b"", b"a\r\nlast")),
]
