#!/bin/sh
# Rebuilds scenegen/export/viewer/viewer.js and studio/page/studio.* from src/. Needs Node 20 or later and, once, the npm registry:
#
#     cd viewer && ./build.sh
#
# The versions are pinned by package-lock.json, so the same sources give the same bytes. The built files are committed:
# nobody needs Node to run or install scenegen.
set -eu
cd "$(dirname "$0")"
report=../scenegen/export/viewer
studio=../studio/page
npm ci --ignore-scripts --no-fund --no-audit
npx tsc
cp node_modules/three/LICENSE "$report/LICENSE-three.txt"
bundle() {
    npx esbuild "$1" --bundle --minify --format=iife --target=es2022 --charset=utf8 --legal-comments=none --outfile="$2" \
        --banner:js="/*! Contains three.js $(node -p 'require("./node_modules/three/package.json").version')
$(cat node_modules/three/LICENSE)*/"
}
bundle src/main.js "$report/viewer.js"
bundle src/studio/main.ts "$studio/studio.js"
npx esbuild src/studio/studio.css --bundle --minify --target=es2022 --outfile="$studio/studio.css"
