// Prints the Khronos validator's report on the GLB named on the command line, as JSON.
import { readFile } from "node:fs/promises";
import { validateBytes } from "gltf-validator";

const bytes = new Uint8Array(await readFile(process.argv[2]));
const report = await validateBytes(bytes, { format: "glb", maxIssues: 100 });
console.log(JSON.stringify(report));
