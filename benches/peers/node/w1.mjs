// W1 through JavaScript's DataLoader: for each line that comes in, one round of 10,000 loads at once, in batches of 100;
// nanoseconds per load go out. The loader is new for each round, and each round is preceded by one that warms up.
import DataLoader from "dataloader";
import { createInterface } from "node:readline";

const GETS = 10_000;

async function round(first) {
  const loader = new DataLoader(async (keys) => keys.map((key) => key * 3), { maxBatchSize: 100 });
  const begun = process.hrtime.bigint();
  const gets = [];
  for (let key = first; key < first + GETS; key++) gets.push(loader.load(key));
  const values = await Promise.all(gets);
  const took = process.hrtime.bigint() - begun;
  if (values.some((value, place) => value !== (first + place) * 3)) throw new Error("wrong answer");
  return Number(took) / GETS;
}

for (let warm = 0; warm < 30; warm++) await round(0);
for await (const _ of createInterface({ input: process.stdin })) {
  await round(0);
  console.log(await round(GETS));
}
