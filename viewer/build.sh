#!/bin/sh
# Rebuilds scenegen/export/viewer/viewer.js from src/. Needs Node 20 or later and, once, the npm registry:
#
#     cd viewer && ./build.sh
#
# The versions are pinned by package-lock.json, so the same sources give the same bytes. The built file is committed:
# nobody needs Node to run or install scenegen.
set -eu
cd "$(dirname "$0")"
target=../scenegen/export/viewer
npm ci --ignore-scripts --no-fund --no-audit
cp node_modules/three/LICENSE "$target/LICENSE-three.txt"
npx esbuild src/main.js --bundle --minify --format=iife --target=es2022 --charset=utf8 --legal-comments=none \
    --banner:js="/*! Contains three.js $(node -p 'require("./node_modules/three/package.json").version')
$(cat node_modules/three/LICENSE)*/" --outfile="$target/viewer.js"
