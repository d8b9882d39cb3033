// mailauth (https://github.com/postalsys/mailauth) for tests/interop/peers.py: one task in, one answer out, in JSON.
// {"keys": {name: record}, "tasks": [{"do": "verify" | "arc" | "sign" | "seal", "message": base64, ...}]}
const { dkimVerify } = require("mailauth/lib/dkim/verify");
const { dkimSign } = require("mailauth/lib/dkim/sign");
const { arc, sealMessage } = require("mailauth/lib/arc");

const { keys, pems, tasks } = JSON.parse(require("fs").readFileSync(0));
console.log = () => {};

async function resolver(name, type) {
  const record = keys[name.toLowerCase()];
  if (type === "TXT" && record) return [[record]];
  throw Object.assign(new Error("no such name"), { code: "ENOTFOUND" });
}

const does = {
  async verify(message) {
    const { results } = await dkimVerify(message, { resolver });
    return results.some((each) => each.signingDomain && each.status.result === "pass") ? "pass" : "fail";
  },
  async arc(message) {
    const found = await dkimVerify(message, { resolver });
    return (await arc(found.arc, { resolver })).status.result;
  },
  async sign(message, { domain, selector, form, length }) {
    const { signatures, errors } = await dkimSign(message, {
      canonicalization: form,
      signTime: Date.now() - 60_000,
      signatureData: [{ signingDomain: domain, selector, privateKey: pems[selector], maxBodyLength: length }],
    });
    if (errors.length) throw errors[0].err || errors[0];
    return signatures;
  },
  async seal(message, { domain, selector, cv, results }) {
    return (
      await sealMessage(message, {
        signingDomain: domain, selector, privateKey: pems[selector], cv, authResults: results,
        signTime: Date.now() - 60_000,
      })
    ).toString("latin1");
  },
};

(async () => {
  const answers = [];
  for (const task of tasks) {
    try {
      answers.push(await does[task.do](Buffer.from(task.message, "base64"), task));
    } catch (error) {
      answers.push("error: " + error.message);
    }
  }
  process.stdout.write(JSON.stringify(answers));
})();
