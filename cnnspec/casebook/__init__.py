"""What the world says of the operators: `specs/`, read from TOML and judged with `==`.

    for entry in load_all(specs_directory()):
        for finding in check(entry):
            print(finding.name, finding.message)

`specs/README.md` documents the format. Integers stay integers and decimals become fractions, so that
nothing is lost between what a source printed and what is compared.
"""

from cnnspec.casebook.checks import Call as Call
from cnnspec.casebook.checks import Finding as Finding
from cnnspec.casebook.checks import check as check
from cnnspec.casebook.checks import not_for_backends as not_for_backends
from cnnspec.casebook.entries import TEXTBOOK as TEXTBOOK
from cnnspec.casebook.entries import Accept as Accept
from cnnspec.casebook.entries import CasebookError as CasebookError
from cnnspec.casebook.entries import Cost as Cost
from cnnspec.casebook.entries import Entry as Entry
from cnnspec.casebook.entries import Example as Example
from cnnspec.casebook.entries import Graph as Graph
from cnnspec.casebook.entries import Layer as Layer
from cnnspec.casebook.entries import NetworkTable as NetworkTable
from cnnspec.casebook.entries import NodeFacts as NodeFacts
from cnnspec.casebook.entries import OutputShape as OutputShape
from cnnspec.casebook.entries import ReceptiveFields as ReceptiveFields
from cnnspec.casebook.entries import Refuse as Refuse
from cnnspec.casebook.entries import Sequence as Sequence
from cnnspec.casebook.entries import Source as Source
from cnnspec.casebook.entries import Step as Step
from cnnspec.casebook.entries import Use as Use
from cnnspec.casebook.reader import find as find
from cnnspec.casebook.reader import load as load
from cnnspec.casebook.reader import load_all as load_all
from cnnspec.casebook.reader import specs_directory as specs_directory
