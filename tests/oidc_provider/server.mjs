// A certified OpenID provider for tests: {"port", "clients", "seed"} on standard input, "listening" on standard output.
// People sign in with any name and any password; their group is "support". Keys are made of the seed, so that a start
// with another seed is a rotation.
import { createHash, createPrivateKey } from 'node:crypto';
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { port, clients, seed } = JSON.parse(Buffer.concat(chunks).toString());

// PKCS#8 of an Ed25519 key is this prefix and 32 bytes (RFC 8410 section 7).
const raw = createHash('sha256').update(seed).digest();
const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), raw]);
const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients,
  jwks: { keys: [{ ...key.export({ format: 'jwk' }), use: 'sig', alg: 'EdDSA', kid: seed }] },
  cookies: { keys: ['a key for cookies that mean nothing'] },
  claims: { openid: ['sub'], profile: ['name', 'groups'] },
  conformIdTokenClaims: false,
  enabledJWA: { idTokenSigningAlgValues: ['EdDSA'] },
  features: { backchannelLogout: { enabled: true }, devInteractions: { enabled: true } },
  // It refuses to tell anybody on loopback of a sign-out, and does so by the dispatcher that it hands over here.
  fetch: (url, { dispatcher: _, ...options }) => globalThis.fetch(url, options),
  pkce: { required: () => true },
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id, name: `${id} by name`, groups: ['support'] }) }),
  // Nobody is asked for consent to their own employer's tool.
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({
      clientId: ctx.oidc.client.clientId,
      accountId: ctx.oidc.session.accountId,
    });
    grant.addOIDCScope('openid profile');
    await grant.save();
    return grant;
  },
});
createServer(provider.callback()).listen(port, '127.0.0.1', () => console.log('listening'));
