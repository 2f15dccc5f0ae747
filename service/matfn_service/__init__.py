"""The matfn server: requests become few batched kernel calls, and every answer carries its certificate.

Types along the way of a call:

    bytes --wire--> wire.Call --admission--> Prepared --jobs--> Job --admittance--> queue --dispatcher--> batch
          --assembly--> shares --executor--> Encoded --assembly--> Served --answers--> bytes
"""
