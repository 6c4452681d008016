// imapflow against the mailbox service, by hand, since Debian has no package of it: in a folder of its own `npm install imapflow`,
// then `node imapflow.mjs PORT PASSWORD USER...` with a copy of this file. IMAP in the clear; the users have no mail yet.
import { ImapFlow } from 'imapflow';
import assert from 'node:assert';

const [port, pass, ...users] = process.argv.slice(2);
const connection = user => ({ host: '127.0.0.1', port: Number(port), secure: false, doSTARTTLS: false, auth: { user, pass }, logger: false });

async function user(name) {
  const c = new ImapFlow(connection(name));
  await c.connect();
  console.log(name, 'capabilities', c.capabilities.size, 'enabled', [...c.enabled].join(','));
  for (const m of ['Work', 'Work/2026', 'Bücher']) await c.mailboxCreate(m);
  const names = (await c.list({ statusQuery: { messages: true, unseen: true, uidNext: true, highestModseq: true } })).map(b => b.path);
  assert(names.includes('INBOX') && names.includes('Bücher') && names.includes('Work/2026'), names.join());
  const letter = i => Buffer.from(`From: Fred <f@x.example>\r\nTo: ${name}@y.example\r\nSubject: number ${i}\r\nDate: Mon, 7 Feb 2022 21:52:25 -0800\r\nMessage-Id: <${i}@x.example>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe ${i}\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n${Buffer.alloc(200000, i).toString('base64').replace(/(.{76})/g, '$1\r\n')}\r\n--b--\r\n`);
  const uids = [];
  for (let i = 1; i <= 20; i++) { const r = await c.append('INBOX', letter(i), i % 2 ? ['\\Seen'] : ['$Work'], new Date(2022, 1, i)); uids.push(r.uid); assert(r.uidValidity); }
  const lock = await c.getMailboxLock('INBOX');
  try {
    assert.equal(c.mailbox.exists, 20);
    const all = await c.fetchAll('1:*', { uid: true, flags: true, envelope: true, bodyStructure: true, internalDate: true, size: true, threadId: true, labels: true });
    assert.equal(all.length, 20); assert.equal(all[4].envelope.subject, 'number 5'); assert.equal(all[4].bodyStructure.childNodes.length, 2);
    const one = await c.fetchOne('3', { source: true, bodyParts: ['1'] }); assert(one.source.equals(letter(3)));
    const { content } = await c.download('7', '2'); let n = 0; for await (const p of content) { n += p.length; assert(p.every(b => b === 7)); } assert.equal(n, 200000);
    assert.deepEqual(await c.search({ seen: true }, { uid: true }), uids.filter((_, i) => i % 2 === 0));
    assert.deepEqual(await c.search({ subject: 'number 1', from: 'fred' }), [1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
    assert.deepEqual(await c.search({ body: 'Grüße 4' }), [4]);
    const before = c.mailbox.highestModseq;
    await c.messageFlagsAdd('1:3', ['\\Flagged', 'Blue']);
    let changed = 0; for await (const m of c.fetch('1:*', { flags: true }, { changedSince: before })) changed++; assert.equal(changed, 3);
    const copied = await c.messageCopy('1:5', 'Work'); assert.equal(copied.uidMap.size, 5);
    const moved = await c.messageMove('6:8', 'Bücher'); assert.equal(moved.uidMap.size, 3);
    assert.equal(c.mailbox.exists, 17);
    await c.messageDelete('1'); assert.equal(c.mailbox.exists, 16);
    const other = new ImapFlow(connection(name));
    await other.connect();
    const seen = new Promise(r => c.once('exists', r));
    const idling = c.idle();
    await new Promise(r => setTimeout(r, 300));
    await other.append('INBOX', letter(30)); const e = await seen; assert.equal(e.count, 17);
    await other.logout();
    await c.noop(); await idling;
  } finally { lock.release(); }
  assert.equal((await c.status('Work', { messages: true, unseen: true })).messages, 5);
  await c.mailboxRename('Work', 'Arbeit'); await c.mailboxSubscribe('Arbeit/2026'); await c.mailboxDelete('Bücher');
  await c.logout(); console.log(name, 'ok');
}
for (const name of users) await user(name);
