"""scenegen's scenes in Blender: import one, and have one of its objects remade by the command line."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import bpy
from bpy.props import IntProperty, StringProperty
from bpy_extras.io_utils import ImportHelper

from . import published, scene

PARTIAL = 6
"""Exit code of scenegen where another object is missing."""
INTERVAL_S = 0.5


class ScenegenPreferences(bpy.types.AddonPreferences):
    """How to call scenegen."""

    bl_idname = __package__
    program: StringProperty(
        name="Command", default="scenegen", description="As in a shell: `scenegen`, or `/path/to/python -m scenegen`"
    )

    def draw(self, context: Any) -> None:
        """See Blender."""
        self.layout.prop(self, "program")


class ImportScene(bpy.types.Operator, ImportHelper):
    """Import a scene that scenegen made of a photo"""

    bl_idname = "scenegen.import_scene"
    bl_label = "Import scenegen scene"
    bl_options = {"REGISTER", "UNDO"}  # noqa: RUF012 (Blender reads it so)
    filename_ext = ".glb"
    filter_glob: StringProperty(default=published.GLB, options={"HIDDEN"})

    def execute(self, context: Any) -> set[str]:
        """See Blender."""
        chosen = Path(self.filepath)
        try:
            scene.import_scene(context, chosen if chosen.is_dir() else chosen.parent)
        except published.SceneError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class RegenerateObject(bpy.types.Operator):
    """Have scenegen make this object anew, with another seed"""

    bl_idname = "scenegen.regenerate"
    bl_label = "Regenerate this object"
    bl_options = {"REGISTER"}  # noqa: RUF012
    seed: IntProperty(name="Seed", default=1, min=0)

    @classmethod
    def poll(cls, context: Any) -> bool:
        """See Blender."""
        return context.object is not None and scene.FOLDER in context.object

    def invoke(self, context: Any, event: Any) -> set[str]:
        """Goes on beside Blender, which stays usable."""
        self._start(context)
        self._timer = context.window_manager.event_timer_add(INTERVAL_S, window=context.window)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: Any, event: Any) -> set[str]:
        """See Blender."""
        if event.type == "ESC":
            self._process.terminate()
        if event.type != "TIMER" or self._process.poll() is None:
            return {"PASS_THROUGH"}
        context.window_manager.event_timer_remove(self._timer)
        return self._end()

    def execute(self, context: Any) -> set[str]:
        """Waits for the object: for scripts."""
        self._start(context)
        self._process.wait()
        return self._end()

    def _start(self, context: Any) -> None:
        self._item = context.object
        program = context.preferences.addons[__package__].preferences.program
        number = self._item[scene.NUMBER]
        command = published.regenerate_command(program, Path(self._item[scene.FOLDER]), number, self.seed)
        # A file, because nobody would empty a pipe meanwhile.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed where the process has ended)
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._said)

    def _end(self) -> set[str]:
        with self._said as said:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
        try:
            if self._process.returncode not in (0, PARTIAL):
                raise published.SceneError(lines[-1] if lines else f"scenegen ended with {self._process.returncode}")
            scene.exchange(self._item)
        except published.SceneError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class ScenegenPanel(bpy.types.Panel):
    """What scenegen knows of the object."""

    bl_idname = "OBJECT_PT_scenegen"
    bl_label = "scenegen"
    bl_space_type = "PROPERTIES"
    bl_region_type = "WINDOW"
    bl_context = "object"

    @classmethod
    def poll(cls, context: Any) -> bool:
        """See Blender."""
        return RegenerateObject.poll(context)

    def draw(self, context: Any) -> None:
        """See Blender."""
        item = context.object
        for key in ("label", "silhouette_iou", "mass_kg", "seed"):
            if key in item:
                self.layout.label(text=f"{key}: {item[key]}")
        self.layout.operator(RegenerateObject.bl_idname).seed = int(item.get("seed", 0)) + 1


CLASSES = (ScenegenPreferences, ImportScene, RegenerateObject, ScenegenPanel)


def register() -> None:
    """See Blender."""
    for each in CLASSES:
        bpy.utils.register_class(each)
    bpy.types.TOPBAR_MT_file_import.append(_menu)


def unregister() -> None:
    """See Blender."""
    bpy.types.TOPBAR_MT_file_import.remove(_menu)
    for each in reversed(CLASSES):
        bpy.utils.unregister_class(each)


def _menu(menu: Any, context: Any) -> None:
    menu.layout.operator(ImportScene.bl_idname, text="scenegen scene (scene.glb)")
