"""Pickles that would run code, read files or reach the network, had anything obeyed them."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator

from scratch.weights import pth_stream
from tests.attack.assembly import call, dict_of, named, program, pth, stream, tensor, text, tuple_of

# Functions and classes by what an attacker gets of them. Arguments don't matter: the name alone must be refused.
NAMES = """
os.system os.popen os.mkdir os.remove os.execv os.spawnl os.kill os.open os.startfile posix.system posix.execv
nt.system subprocess.Popen subprocess.check_output subprocess.run subprocess.getoutput pty.spawn commands.getoutput
builtins.eval builtins.exec builtins.compile builtins.__import__ builtins.getattr builtins.setattr builtins.open
builtins.input builtins.globals builtins.vars builtins.map builtins.type builtins.object builtins.print
builtins.memoryview builtins.breakpoint __builtin__.eval __builtin__.execfile __builtin__.apply __builtin__.file
_io.open _io.FileIO io.open io.open_code codecs.open pathlib.Path pathlib.PosixPath tempfile.mktemp glob.glob
shutil.rmtree shutil.copyfile shutil.move fileinput.input linecache.getline mmap.mmap sqlite3.connect dbm.open
importlib.import_module importlib.reload importlib._bootstrap._gcd_import imp.load_source pkgutil.get_loader
pkgutil.resolve_name runpy.run_path runpy._run_code runpy.run_module zipimport.zipimporter site.addsitedir
code.interact code.InteractiveInterpreter codeop.compile_command pdb.run bdb.Bdb cProfile.run profile.run
timeit.timeit trace.Trace doctest.testfile unittest.main idlelib.pyshell.ModifiedInterpreter pydoc.locate
types.FunctionType types.CodeType types.ModuleType marshal.loads marshal.load ctypes.CDLL ctypes.cdll.LoadLibrary
_ctypes.dlopen cffi.FFI gc.get_objects inspect.getattr_static operator.attrgetter operator.methodcaller
operator.itemgetter _operator.attrgetter functools.partial functools.reduce itertools.starmap collections.namedtuple
collections.defaultdict collections.deque collections.ChainMap copyreg._reconstructor copy_reg._reconstructor
copyreg.__newobj__ pickle.loads pickle.Unpickler _pickle.loads cPickle.loads dill.loads joblib.load cloudpickle.loads
shelve.open yaml.load weakref.finalize atexit.register signal.signal threading.Thread threading.Timer
multiprocessing.Process multiprocessing.util.spawnv_passfds concurrent.futures.ProcessPoolExecutor asyncio.run
asyncio.create_subprocess_shell socket.socket socket.create_connection ssl.get_server_certificate
urllib.request.urlopen urllib.request.urlretrieve http.client.HTTPConnection ftplib.FTP smtplib.SMTP telnetlib.Telnet
xmlrpc.client.ServerProxy webbrowser.open requests.get logging.config.fileConfig logging.FileHandler
antigravity.geohash numpy.load numpy.save numpy.fromfile numpy.memmap numpy.core.multiarray._reconstruct
numpy._core.multiarray._reconstruct numpy.core.multiarray.scalar numpy.ndarray numpy.dtype
numpy.f2py.crackfortran.getlincoef numpy.testing._private.utils.runstring numpy.distutils.exec_command.exec_command
numpy.lib.npyio.NpzFile
torch.load torch.save torch.hub.load torch.hub.download_url_to_file torch.jit.load torch.ops.load_library
torch.classes.load_library torch.storage._load_from_bytes torch.serialization.load torch.serialization._load
torch.utils.data.datapipes.utils.decoder.basichandlers torch._inductor.codecache.compile_file torch.cuda.set_device
torch._utils.sys torch._utils._import_dotted_name torch._utils._rebuild_xla_tensor torch.nn.modules.module.Module
torch.nn.modules.linear.Linear torch.package.PackageImporter torch.fx.graph_module.reduce_graph_module
torch.distributed.rpc.api._invoke_rpc torch.multiprocessing.reductions.rebuild_storage_fd
torch.multiprocessing.reductions.rebuild_cuda_tensor transformers.AutoModel.from_pretrained scratch.weights.load
scratch.weights.files.write_text argparse.Namespace enum.Enum uuid.UUID decimal.Decimal fractions.Fraction
datetime.datetime random.Random
""".split()

# How a pickle comes to a name: protocols 0 to 4, calls, instances, and attributes of what is allowed.
STYLES = {
    "GLOBAL": lambda module, attribute: named(module, attribute),
    "REDUCE": lambda module, attribute: call(named(module, attribute), text("x")),
    "STACK_GLOBAL": lambda module, attribute: short(module) + short(attribute) + b"\x93",
    "INST": lambda module, attribute: b"(" + text("x") + f"i{module}\n{attribute}\n".encode(),
    "OBJ": lambda module, attribute: b"(" + named(module, attribute) + text("x") + b"o",
    "NEWOBJ": lambda module, attribute: named(module, attribute) + b")\x81",
    "NEWOBJ_EX": lambda module, attribute: named(module, attribute) + b")}\x92",
    "BUILD": lambda module, attribute: named(module, attribute) + b")\x81}b",
}

# Where in the file of a network it hides.
PLACES = {
    "alone": lambda attack: attack,
    "in a dict": lambda attack: dict_of(w=tensor(6, (6,), (1,)), x=attack),
    "a key": lambda attack: b"}" + attack + b"Ns",
    "attributes": lambda attack: call(named("collections", "OrderedDict")) + attack + b"b",
    "thrown away": lambda attack: attack + b"0}",
    "an argument": lambda attack: call(named("torch", "Size"), tuple_of(attack)),
    "hooks": lambda attack: call(
        named("torch._utils", "_rebuild_parameter"), tensor(6, (6,), (1,)), b"\x88", attack
    ),
    "a storage": lambda attack: tuple_of(text("storage"), attack, text("0"), text("cpu"), b"K\x06") + b"Q",
}  # fmt: skip


def short(value: str) -> bytes:
    return b"\x8c" + struct.pack("<B", len(value)) + value.encode()


def attacks() -> Iterator[tuple[str, bytes]]:
    """(what, a pickle's opcodes): every name, its style and its place changing from one to the next."""
    styles, places = list(STYLES.items()), list(PLACES.items())
    for i, dotted in enumerate(NAMES):
        module, _, attribute = dotted.rpartition(".")
        for step in range(2):
            style, make = styles[(3 * i + 5 * step) % len(styles)]
            place, hide = places[(i + 3 * step) % len(places)]
            yield f"{dotted} by {style}, {place}", hide(make(module, attribute))
    for module, attribute in (
        ("collections", "OrderedDict.fromkeys"), ("collections", "OrderedDict.__class__"), ("builtins", "set.__init__"),
        ("torch", "Size.__reduce__"), ("torch", "_utils._rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"), ("", "os"), ("torch", ""), ("torch\n", "Size"),
        ("builtins", "complex.__subclasshook__"),
    ):  # fmt: skip
        yield f"{module!r}.{attribute!r}", call(short(module) + short(attribute) + b"\x93")
    yield from {
        "PERSID": b"Pos.system\n", "EXT1": b"\x82\x01", "EXT2": b"\x83\x01\x00", "EXT4": b"\x84\x01\0\0\0",
        "a call of a string": text("os.system") + b")R", "a call of a dict": b"})R", "a call of nothing": b"N)R",
        "NEXT_BUFFER": b"\x97", "READONLY_BUFFER": b"N\x98", "state of a tensor": tensor(6, (6,), (1,)) + b"}b",
    }.items()  # fmt: skip


def files() -> Iterator[tuple[str, bytes]]:
    """The same in files: an archive, and every pickle of an older file."""
    numbers = bytes(24)
    for i, (what, body) in enumerate(attacks()):
        yield what, pth(body, numbers) if i % 2 else stream(body, ("0", numbers, 6))
        if i % 10 == 0:
            head = [pickle.dumps(value, 2) for value in (pth_stream.MAGIC, 1001, {}, {})]
            pickles = [*head, program(b"]")]
            pickles[i // 10 % 5] = program(body)
            yield f"{what}, in pickle {i // 10 % 5}", b"".join(pickles)
