// A real OpenID provider for one test: the certified `oidc-provider`, on loopback, with its own login form.
//
// Settings come as JSON in the first argument. It prints one line when it listens. SIGHUP replaces every signing key, as
// a provider does whose keys were stolen: the old ones are gone from its key set at once. PUT /people/<login> with a JSON
// object changes what is known of a person: claims, and how they sign in (`acr`, `amr`).

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

const settings = JSON.parse(process.argv[2]);
const server = createServer();
const cookieKeys = [randomBytes(32).toString('hex')];

// What tests changed, by login name.
const people = new Map();

function person(login) {
  return {
    sub: login,
    email: `${login}@example.test`,
    email_verified: true,
    name: `Name of ${login}`,
    groups: ['staff', `team-${login}`],
    ...people.get(login),
  };
}

function newKeys(generation) {
  const make = [
    ['RS256', 'rsa', { modulusLength: 2048 }],
    ['PS256', 'rsa', { modulusLength: 2048 }],
    ['ES256', 'ec', { namedCurve: 'P-256' }],
    ['EdDSA', 'ed25519', {}],
  ];
  // Making an RSA key is what a start takes longest for, so only the one that is used is made.
  const wanted = make.filter(([alg, type]) => type !== 'rsa' || alg === settings.alg);
  return wanted.map(([alg, type, options]) => ({
    ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }),
    kid: `${alg}-${generation}`,
    alg,
    use: 'sig',
  }));
}

function configuration(generation) {
  const algorithms = ['RS256', 'PS256', 'ES256', 'EdDSA'];
  return {
    jwks: { keys: newKeys(generation) },
    cookies: { keys: cookieKeys },
    clients: [
      {
        client_id: settings.client_id,
        client_secret: settings.client_secret,
        redirect_uris: [settings.redirect_uri],
        response_types: ['code'],
        grant_types: ['authorization_code'],
        token_endpoint_auth_method: settings.client_auth,
        id_token_signed_response_alg: settings.alg,
      },
      {
        client_id: settings.machine_id,
        client_secret: settings.machine_secret,
        redirect_uris: [],
        response_types: [],
        grant_types: ['client_credentials'],
        token_endpoint_auth_method: settings.client_auth,
        id_token_signed_response_alg: settings.alg,
      },
    ],
    clientAuthMethods: [settings.client_auth],
    enabledJWA: { idTokenSigningAlgValues: algorithms },
    pkce: { required: () => true },
    // Without this, claims of the person are in the answer of another endpoint only.
    conformIdTokenClaims: false,
    acrValues: ['silver', 'gold'],
    claims: {
      openid: ['sub', 'acr', 'amr'],
      email: ['email', 'email_verified'],
      profile: ['name', 'preferred_username', 'groups', '_claim_names'],
    },
    findAccount: (_context, login) => ({ accountId: login, claims: () => person(login) }),
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_context, client) => (client.clientId === settings.machine_id ? settings.audience : undefined),
        getResourceServerInfo: () => ({
          audience: settings.audience,
          scope: '',
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: settings.alg } },
        }),
      },
    },
  };
}

let generation = 0;
let handle;

function renew() {
  generation += 1;
  const { port } = server.address();
  const provider = new Provider(`http://127.0.0.1:${port}`, configuration(generation));
  const finish = provider.interactionFinished.bind(provider);
  // Its login form does not say how a person signed in; the result of a login may.
  provider.interactionFinished = (request, response, result, options) => {
    const { acr, amr } = person(result.login?.accountId);
    const told = result.login ? { ...result, login: { ...result.login, acr, amr } } : result;
    return finish(request, response, told, options);
  };
  handle = provider.callback();
}

async function change(request, response) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  people.set(decodeURIComponent(request.url.slice('/people/'.length)), JSON.parse(Buffer.concat(pieces)));
  response.writeHead(204).end();
}

server.on('request', (request, response) => {
  if (request.method === 'PUT' && request.url.startsWith('/people/')) change(request, response);
  else handle(request, response);
});
process.on('SIGHUP', renew);
server.listen(settings.port, '127.0.0.1', () => {
  renew();
  console.log(`listening on port ${server.address().port}`);
});
