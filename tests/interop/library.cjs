// The platform's official library, asked by a test: one JSON question a line on standard input, and one answer a line on
// standard output, as soon as it is there. Nothing of the library is replaced: its own HTTP client checks certificates.
"use strict";

const net = require("node:net");
const tls = require("node:tls");
const readline = require("node:readline");
const library = require("@adyen/api-library");
const { NexoSecurityManager } = require("@adyen/api-library/lib/src/security/clouddevice");

const SLOWEST_ANSWER_MS = 60_000;

/** The library speaks to the cloud over TLS alone: a front for a simulator that speaks HTTP. Returns its base URL. */
function front({ key, cert, url }) {
  const { hostname, port } = new URL(url);
  const server = tls.createServer({ key, cert }, (outside) => {
    const inside = net.connect(Number(port), hostname);
    for (const [socket, other] of [[outside, inside], [inside, outside]]) {
      socket.pipe(other);
      socket.on("error", () => other.destroy());
    }
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve(`https://127.0.0.1:${server.address().port}`));
  });
}

function client({ apiKey, ...more }) {
  const config = { apiKey, environment: "TEST", connectionTimeoutMillis: SLOWEST_ANSWER_MS, ...more };
  return new library.Client(config);
}

const securityKey = ({ identifier, version, passphrase }) => ({
  KeyIdentifier: identifier,
  KeyVersion: version,
  Passphrase: passphrase,
  AdyenCryptoVersion: 1,
});

const credentials = ({ identifier, version, passphrase }) => ({
  keyIdentifier: identifier,
  keyVersion: version,
  passphrase,
  adyenCryptoVersion: 1,
});

const QUESTIONS = {
  front,

  async cloud({ base, apiKey, how, message }) {
    const chosen = client({ apiKey });
    chosen.config.terminalApiCloudEndpoint = base; // its own way to name another cloud is undone for the test environment
    return new library.TerminalCloudAPI(chosen)[how](message);
  },

  async device({ base, apiKey, merchant, poiId, how, message, key }) {
    const family = new library.CloudDeviceAPI(client({ apiKey }));
    const api = key ? family.getEncryptedCloudDeviceApi(credentials(key)) : family.CloudDeviceApi;
    api.baseUrl = `${base}/v1`; // it offers no way to name another host
    if (how === "getConnectedDevices") return api.getConnectedDevices(merchant);
    if (how === "getDeviceStatus") return api.getDeviceStatus(merchant, poiId);
    return api[how](merchant, poiId, message);
  },

  async local({ host, apiKey, root, key, message }) {
    const chosen = client({ apiKey, certificatePath: root, terminalApiLocalEndpoint: `https://${host}` });
    return new library.TerminalLocalAPI(chosen).request(message, securityKey(key));
  },

  async seal({ by, key, header, text }) {
    if (by === "NexoCrypto") return library.NexoCrypto.encrypt(header, text, securityKey(key));
    return new NexoSecurityManager(credentials(key)).encrypt(text, header);
  },

  async open({ by, key, sealed }) {
    if (by === "NexoCrypto") return new library.NexoCrypto().decrypt(sealed, securityKey(key));
    return new NexoSecurityManager(credentials(key)).decrypt(sealed);
  },

  async webhook({ item, hmacKey }) {
    return new library.hmacValidator().validateHMAC(item, hmacKey);
  },
};

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, ask, ...question } = JSON.parse(line);
  let answer;
  try {
    answer = { id, said: await QUESTIONS[ask](question) };
  } catch (error) {
    answer = { id, failed: `${error.name}: ${error.message}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}).on("close", () => process.exit(0));
