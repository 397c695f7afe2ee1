// A provider of OpenID Connect over TLS: the reference implementation for Node, with one client that gets tokens for
// itself. Arguments: its folder of packages, certificate, key, a file with the private keys that it signs by (JWKS), port.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createServer } from 'node:https';

const [, , packages, cert, key, jwks, port] = process.argv;
const { Provider } = await import(createRequire(`${packages}/`).resolve('oidc-provider'));
const resource = (algorithm) => ({
  scope: '', audience: 'taffrail', accessTokenTTL: 300, accessTokenFormat: 'jwt', jwt: { sign: { alg: algorithm } },
});
const provider = new Provider(`https://localhost:${port}`, {
  jwks: JSON.parse(readFileSync(jwks)),
  clients: [{
    client_id: 'scraper', client_secret: 'secret', grant_types: ['client_credentials'], redirect_uris: [],
    response_types: [], id_token_signed_response_alg: 'ES256',
  }],
  extraTokenClaims: () => ({ groups: ['ops'] }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      // The algorithm is the resource's last part.
      getResourceServerInfo: (ctx, indicator) => resource(indicator.split('/').pop()),
    },
  },
});
createServer({ cert: readFileSync(cert), key: readFileSync(key) }, provider.callback())
  .listen(Number(port), '127.0.0.1', () => console.log('ready'));
